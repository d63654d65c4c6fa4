// Functions of a library that is loaded while the program runs.
#pragma once

#include <dlfcn.h>

namespace membrain::cuda {

/// Finds functions until one is missing.
class Binder {
 public:
  explicit Binder(void* library) noexcept : library_(library) {}

  template <class F>
  void bind(F*& function, const char* name) noexcept {
    function = reinterpret_cast<F*>(::dlsym(library_, name));
    if (function == nullptr && missing_ == nullptr) missing_ = name;
  }
  /// The first that the library lacks; null if it has all.
  [[nodiscard]] const char* missing() const noexcept { return missing_; }

 private:
  void* library_;
  const char* missing_ = nullptr;
};

}  // namespace membrain::cuda
