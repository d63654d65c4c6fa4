#include "server/cluster/state_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/checksum.h"
#include "base/codec.h"
#include "server/cluster/replace_file.h"

namespace membrain {

namespace {

constexpr std::uint32_t kMagic = 0x5453424d;  // "MBST" in memory order
constexpr std::uint32_t kFormat = 2;
constexpr std::size_t kChecksumBytes = 16;
constexpr std::size_t kLeastEntryBytes = 20;  // two revisions, two lengths
constexpr std::size_t kMaxFileBytes = 64UL << 20;

Result<std::vector<std::byte>> read_all(int fd) {
  std::vector<std::byte> bytes;
  std::array<std::byte, 65536> chunk;
  while (true) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_failed("reading the server's state");
    if (got == 0) return bytes;
    if (bytes.size() > kMaxFileBytes) {
      return fail(Errc::corrupt, "the server's state file is too large to be one");
    }
    bytes.insert(bytes.end(), chunk.begin(), chunk.begin() + got);
  }
}

}  // namespace

Result<std::unique_ptr<StateFile>> StateFile::open(const std::string& directory) {
  std::unique_ptr<StateFile> store(new StateFile);
  std::error_code ignored;  // what is wrong shows below
  std::filesystem::create_directories(std::filesystem::path(directory).parent_path(), ignored);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return file_failed("making the state directory");
  }
  store->directory_ = Descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!store->directory_) return file_failed("opening the state directory");
  if (const Result<> locked = store->lock(); !locked) return fail(locked.error());
  if (const Result<> loaded = store->load(); !loaded) return fail(loaded.error());
  return store;
}

Result<> StateFile::lock() {
  lock_ = Descriptor(::openat(directory_.fd(), "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) return file_failed("opening the lock of the state directory");
  if (::flock(lock_.fd(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return file_failed("locking the state directory");
  return fail(Errc::unavailable, "another server uses this state directory", EWOULDBLOCK);
}

Result<> StateFile::load() {
  const Descriptor file(::openat(directory_.fd(), "state", O_RDONLY | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT) return {};
    return file_failed("opening the server's state file");
  }
  const Result<std::vector<std::byte>> bytes = read_all(file.fd());
  if (!bytes) return fail(bytes.error());
  return parse(*bytes);
}

Result<> StateFile::parse(std::span<const std::byte> bytes) {
  const auto damaged = fail(Errc::corrupt, "the server's state file is damaged");
  if (bytes.size() < kChecksumBytes) return damaged;
  const std::span<const std::byte> body = bytes.first(bytes.size() - kChecksumBytes);
  Checksum kept;
  Reader tail(bytes.last(kChecksumBytes));
  tail.get(kept);
  if (kept != checksum(body)) return damaged;
  Reader in(body);
  std::uint32_t magic = 0;
  std::uint32_t format = 0;
  in.get(magic), in.get(format), in.get(loaded_.revision);
  if (magic != kMagic || format != kFormat) {
    return fail(Errc::corrupt, "the server's state file is of another format");
  }
  const std::size_t count = in.count(kMaxEntries, kLeastEntryBytes);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    CoordinationEntry& entry = loaded_.entries.emplace_back();
    in.get(entry.created), in.get(entry.modified);
    in.get(entry.key, kMaxTextBytes);
    in.get(entry.value, kMaxTextBytes);
  }
  if (!in.ok()) return damaged;
  return {};
}

Result<> StateFile::save(const CoordinationView& view) {
  if (view.entries.size() > kMaxEntries) {
    return fail(Errc::out_of_capacity, "the server's state is full");
  }
  for (const CoordinationEntry& entry : view.entries) {
    if (entry.key.size() <= kMaxTextBytes && entry.value.size() <= kMaxTextBytes) continue;
    return fail(Errc::invalid_argument, "a key or a value that the server's state cannot hold");
  }
  std::vector<std::byte> bytes;
  Writer out(bytes);
  out.put(kMagic), out.put(kFormat), out.put(view.revision);
  out.put(static_cast<std::uint32_t>(view.entries.size()));
  for (const CoordinationEntry& entry : view.entries) {
    out.put(entry.created), out.put(entry.modified);
    out.put(std::string_view(entry.key)), out.put(std::string_view(entry.value));
  }
  const Checksum sum = checksum(bytes);
  out.put(sum);
  if (bytes.size() > kMaxFileBytes)
    return fail(Errc::out_of_capacity, "the server's state is full");
  return replace_file(directory_.fd(), "state", bytes);
}

}  // namespace membrain
