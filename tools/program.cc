#include "tools/program.h"

#include <fstream>

#include "tools/output.h"

namespace membrain {

Exit failed(const char* command, const std::string& text) {
  complain_aloud(command, text);
  return Exit::failure;
}

std::string in_words(const Error& error) {
  std::string text(to_string(error.code));
  if (!error.context.empty()) text += fmt::format(" ({})", error.context);
  return text;
}

std::string host_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace membrain
