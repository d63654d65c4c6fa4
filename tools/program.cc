#include "tools/program.h"

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

}  // namespace membrain
