#include "transport/host_id.h"

#include <fstream>

namespace membrain {

std::string host_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace membrain
