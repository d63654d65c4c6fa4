// Whether our declaration of a foreign function is called as the foreign one is.
#pragma once

#include <type_traits>

namespace membrain::cuda_test {

/// As a call sees it: pointers are one kind, structures another, numbers of a size another.
template <class A, class B>
constexpr bool kPassedAlike =
    sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B> &&
    std::is_class_v<A> == std::is_class_v<B>;

template <class Ours, class Theirs>
constexpr bool kSameCall = false;
template <class OurResult, class TheirResult, class... Ours, class... Theirs>
constexpr bool kSameCall<OurResult (*)(Ours...), TheirResult (*)(Theirs...)> = [] {
  if constexpr (sizeof...(Ours) == sizeof...(Theirs)) {
    return kPassedAlike<OurResult, TheirResult> && (kPassedAlike<Ours, Theirs> && ...);
  } else {
    return false;
  }
}();

}  // namespace membrain::cuda_test
