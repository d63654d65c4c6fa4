// The state of a server without etcd: as it came and with its checksum put right. What is accepted
// can be kept and is the same when it is read again.
#include <memory>

#include "server/cluster/state_file.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {
namespace {

bool same(const CoordinationView& a, const CoordinationView& b) {
  if (a.revision != b.revision || a.entries.size() != b.entries.size()) return false;
  for (std::size_t i = 0; i < a.entries.size(); ++i) {
    const CoordinationEntry& one = a.entries[i];
    const CoordinationEntry& other = b.entries[i];
    if (one.key != other.key || one.value != other.value || one.created != other.created ||
        one.modified != other.modified) {
      return false;
    }
  }
  return true;
}

void load(const Folder& folder, std::span<const std::byte> bytes) {
  folder.put("state", bytes);
  CoordinationView view;
  {
    Result<std::unique_ptr<StateFile>> file = StateFile::open(folder.path());
    if (!file) return;
    view = (*file)->take_loaded();
    check((*file)->save(view).has_value(), "what was loaded cannot be kept");
  }
  const Result<std::unique_ptr<StateFile>> again = StateFile::open(folder.path());
  check(again.has_value(), "what was kept cannot be loaded");
  check(same((*again)->take_loaded(), view), "the state changed between reading and writing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const std::span<const std::byte> bytes = bytes_of(data, size);
  load(folder, bytes);
  load(folder, with_checksum(bytes));
  return 0;
}

}  // namespace membrain::fuzz
