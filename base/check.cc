#include "base/check.h"

#include <cstdlib>

#include "base/log.h"

namespace membrain {

void check_failed(std::string_view what, const char* file, int line) noexcept {
  log(LogLevel::error, "broken promise at {}:{}: {}", file, line, what);
  std::abort();
}

}  // namespace membrain
