// Configuration files: TOML. Every value that is taken says where it stands.
#include "tools/config_file.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const std::string path = folder.put("membrain.toml", bytes_of(data, size));
  const Outcome<ConfigFile> file = read_config_file(path);
  if (!file) {
    check(file.error().text.starts_with(path), "a complaint does not name the file");
    return 0;
  }
  for (const auto& [table, keys] : *file) {
    for (const auto& [key, setting] : keys) {
      check(setting.source.starts_with(path + ":"), "nobody knows where a setting stands");
    }
  }
  return 0;
}

}  // namespace membrain::fuzz
