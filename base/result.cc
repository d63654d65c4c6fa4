#include "membrain/result.h"

namespace membrain {

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_argument:
      return "invalid_argument";
    case Errc::not_found:
      return "not_found";
    case Errc::stale:
      return "stale";
    case Errc::peer_lost:
      return "peer_lost";
    case Errc::out_of_capacity:
      return "out_of_capacity";
    case Errc::timed_out:
      return "timed_out";
    case Errc::corrupt:
      return "corrupt";
    case Errc::denied:
      return "denied";
    case Errc::unavailable:
      return "unavailable";
    case Errc::cancelled:
      return "cancelled";
  }
  return "unknown";
}

}  // namespace membrain
