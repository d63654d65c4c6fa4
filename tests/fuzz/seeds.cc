// Writes the seeds of all fuzz targets.
//
// usage: fuzz_seeds FOLDER
#include "tests/fuzz/seeds.h"

#include <cstdio>
#include <fstream>

#include "tests/fuzz/target.h"

namespace membrain::fuzz {

void Seeds::put(std::string_view target, const std::string& name,
                std::span<const std::byte> bytes) {
  const std::filesystem::path folder = folder_ / target;
  std::filesystem::create_directories(folder);
  std::ofstream file(folder / name, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  check(file.good(), "a seed cannot be written");
  ++count_;
}

void Seeds::put(std::string_view target, const std::string& name, std::string_view text) {
  put(target, name, std::as_bytes(std::span(text)));
}

}  // namespace membrain::fuzz

int main(int argc, char** argv) {
  using namespace membrain::fuzz;
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
    return 2;
  }
  Seeds seeds(argv[1]);
  seed_messages(seeds);
  seed_memory(seeds);
  seed_files(seeds);
  seed_services(seeds);
  seed_texts(seeds);
  std::printf("%zu seeds\n", seeds.count());
  return 0;
}
