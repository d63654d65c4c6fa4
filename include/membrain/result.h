// How Membrain reports failure: as a value. No exception crosses this API.
#pragma once

#include <cstdint>
#include <string_view>
#include <tl/expected.hpp>

namespace membrain {

/// What went wrong, in the caller's terms: each value names a different thing the caller can do.
enum class Errc : std::uint8_t {
  invalid_argument = 1,  ///< the request itself is wrong: fix the call
  not_found,             ///< nobody holds it: recompute
  stale,                 ///< the slot was reused since it was looked up: recompute or look up again
  /// the other process died or the connection broke: another replica, or recompute
  peer_lost,
  out_of_capacity,  ///< a bound was reached (slots, window, descriptors): shed or try later
  timed_out,        ///< the deadline passed; no byte can land any more
  corrupt,          ///< bytes or a frame failed their check: nothing of it was used
  denied,           ///< the proof or the grant was not accepted
  unavailable,      ///< the server, shard or node cannot be reached now: go on without it
  cancelled,        ///< the caller took it back; no byte can land any more
};

/// The enumerator's own name, for messages and JSON keys. Static storage.
[[nodiscard]] std::string_view to_string(Errc code) noexcept;

/// A failure as a value: no heap, safe to copy on the data path.
struct Error {
  Errc code = Errc::invalid_argument;
  std::int32_t native = 0;        ///< ucs_status_t, errno or CUresult; 0 if none
  std::string_view context = {};  ///< static text only, e.g. "ucp_am_send_nbx"
};

/// A `T`, or the reason there is none. Dropping one is a warning, and warnings are errors.
template <class T = void>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};

/// Writes `return fail(Errc::stale, "seal")` where a `Result` of any type is returned.
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) noexcept {
  return tl::unexpected<Error>(error);
}
[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string_view context,
                                                std::int32_t native = 0) noexcept {
  return tl::unexpected<Error>(Error{code, native, context});
}

}  // namespace membrain
