// Runs a fuzz target over files and folders of files, where libFuzzer is not: in every build.
//
// usage: fuzz_TARGET PATH...
//
// Each file's name is printed before it is read, so that the last line names the one that ended the
// process. An input lies at the end of a page, with nothing behind it: a read past its end is a
// fault in builds without a sanitizer too.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/target.h"

namespace membrain::fuzz {
namespace {

/// The files at `path`, in an order that is always the same.
std::vector<std::filesystem::path> files_at(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

/// Pages for one input, and one behind them that nobody may touch.
class Guarded {
 public:
  explicit Guarded(std::size_t size) : size_(size), pages_((size / kPage + 1) * kPage) {
    void* memory =
        ::mmap(nullptr, pages_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED, "no memory for an input");
    memory_ = static_cast<std::uint8_t*>(memory);
    check(::mprotect(memory_ + pages_, kPage, PROT_NONE) == 0, "mprotect");
  }
  ~Guarded() { ::munmap(memory_, pages_ + kPage); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  [[nodiscard]] std::uint8_t* data() const noexcept { return memory_ + pages_ - size_; }

 private:
  static constexpr std::size_t kPage = 4096;
  std::size_t size_;
  std::size_t pages_;
  std::uint8_t* memory_ = nullptr;
};

bool replay(const std::filesystem::path& path) {
  std::printf("%s\n", path.c_str());
  std::fflush(stdout);
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    std::printf("cannot be read\n");
    return false;
  }
  const Guarded input(content.size());
  std::ranges::copy(content, input.data());
  return LLVMFuzzerTestOneInput(input.data(), content.size()) == 0;
}

int run(const std::vector<std::filesystem::path>& paths) {
  std::size_t count = 0;
  for (const std::filesystem::path& path : paths) {
    for (const std::filesystem::path& file : files_at(path)) {
      if (!replay(file)) return 1;
      ++count;
    }
  }
  std::printf("%zu inputs, no crash\n", count);
  return count == 0 ? 1 : 0;  // what ran nothing has proved nothing
}

}  // namespace
}  // namespace membrain::fuzz

int main(int argc, char** argv) {
  if (argc < 2) {
    std::printf("usage: %s FILE-OR-FOLDER...\n", argc > 0 ? argv[0] : "fuzz_TARGET");
    return 2;
  }
  return membrain::fuzz::run({argv + 1, argv + argc});
}
