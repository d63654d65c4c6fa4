#include "tools/python_demo.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "tools/output.h"
#include "tools/signals.h"

namespace membrain {

namespace {

namespace files = std::filesystem;

/// What the package is built for: Debian's. Else the one that the shell would find.
const char* python() {
  std::error_code ignored;
  return files::exists("/usr/bin/python3", ignored) ? "/usr/bin/python3" : "python3";
}

}  // namespace

Outcome<> become_python_demo() {
  std::error_code wrong;
  const files::path self = files::read_symlink("/proc/self/exe", wrong);
  const files::path package = self.parent_path().parent_path() / "python";
  if (!wrong && files::exists(package / "membrain" / "demo.py", wrong)) {
    const char* inherited = std::getenv("PYTHONPATH");
    const std::string path = package.string() + (inherited ? ":" + std::string(inherited) : "");
    ::setenv("PYTHONPATH", path.c_str(), 1);
  }
  ::setenv("MEMBRAIN_BINARY", self.c_str(), 1);
  yield_stdout();
  yield_signals();
  ::execlp(python(), python(), "-m", "membrain.demo", nullptr);
  return complain("could not run python3: {}. Install it (apt install python3)",
                  std::generic_category().message(errno));
}

}  // namespace membrain
