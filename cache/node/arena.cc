#include "cache/node/arena.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/checksum.h"
#include "base/log.h"
#include "base/mac.h"
#include "cache/node/generations.h"

namespace membrain {

namespace {

constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20;
constexpr std::size_t kMaxNameBytes = 64;
// MADV_POPULATE_READ and _WRITE, Linux 5.14: map what exists, fault pages in; or fail. Pages of
// shared memory that are mapped for reading can be written to without a fault: three times faster.
constexpr int kPopulateRead = 22;
constexpr int kPopulateWrite = 23;
constexpr int kMaxOpenTries = 8;  // of a file that keeps being replaced under us

/// Writers' locks lie behind any byte that an arena could have.
constexpr std::uint64_t kWriterMask = (std::uint64_t{1} << 62) - 1;
constexpr off_t kWriterLocks = off_t{1} << 62;

struct flock writer_lock(WriterId writer, short type) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = kWriterLocks + static_cast<off_t>(writer.value);
  lock.l_len = 1;
  return lock;
}

std::uint64_t rounded_up(std::uint64_t bytes, std::uint64_t to) noexcept {
  return (bytes + to - 1) / to * to;
}

bool good_name(const std::string& name) noexcept {
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name.size() <= kMaxNameBytes &&
         name.find_first_not_of(kAllowed) == std::string::npos;
}

/// Opens and locks the file at `path`, creating it if need be; what it locked is what the path
/// names now.
Result<Descriptor> open_locked(const std::string& path) {
  for (int tries = 0; tries < kMaxOpenTries; ++tries) {
    Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file.fd() < 0) {
      log(LogLevel::error, "arena {}: cannot be opened: {}", path, std::strerror(errno));
      return fail(Errc::denied, "the arena's file cannot be opened", errno);
    }
    if (::flock(file.fd(), LOCK_EX | LOCK_NB) != 0) {
      log(LogLevel::error, "arena {}: another node is using it; give this one another name", path);
      return fail(Errc::unavailable, "another node holds the arena of this name", errno);
    }
    struct stat opened {};
    struct stat named {};
    if (::fstat(file.fd(), &opened) != 0 || !S_ISREG(opened.st_mode)) {
      return fail(Errc::denied, "the arena is not a regular file", errno);
    }
    if (opened.st_uid != ::geteuid()) {
      log(LogLevel::error, "arena {}: belongs to another user", path);
      return fail(Errc::denied, "the arena belongs to another user");
    }
    const bool same = ::lstat(path.c_str(), &named) == 0 && named.st_ino == opened.st_ino &&
                      named.st_dev == opened.st_dev;
    if (same) return file;
  }
  return fail(Errc::unavailable, "the arena's file keeps being replaced");
}

/// What a file on a hugetlbfs is made of; 0 for any other file.
std::uint64_t huge_page_bytes(int fd) noexcept {
  struct statfs system {};
  const bool huge = ::fstatfs(fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC;
  return huge ? static_cast<std::uint64_t>(system.f_bsize) : 0;
}

/// Of the huge pages of a size: how many are set aside, free, or promised to somebody.
std::uint64_t count_pages(std::uint64_t page_bytes, const char* which) {
  std::uint64_t count = 0;
  std::ifstream(
      fmt::format("/sys/kernel/mm/hugepages/hugepages-{}kB/{}", page_bytes >> 10, which)) >>
      count;
  return count;
}

/// They come only to those who ask before the pages exist.
bool ask_for_huge_pages(std::span<std::byte> memory) noexcept {
  std::string setting;
  std::getline(std::ifstream("/sys/kernel/mm/transparent_hugepage/shmem_enabled"), setting);
  const bool off = setting.empty() || setting.find("[never]") != std::string::npos ||
                   setting.find("[deny]") != std::string::npos;
  return !off && ::madvise(memory.data(), memory.size(), MADV_HUGEPAGE) == 0;
}

/// Made by a process that died before it had written the header, whose last word is the magic: no
/// node has lived in it.
bool unfinished(int fd) noexcept {
  std::array<std::byte, sizeof(ArenaHeader)> header{};
  if (::pread(fd, header.data(), header.size(), 0) < 0) return false;
  const auto is_zero = [&header](std::size_t at, std::size_t size) {
    const auto from = header.begin() + static_cast<std::ptrdiff_t>(at);
    return std::all_of(from, from + static_cast<std::ptrdiff_t>(size),
                       [](std::byte byte) { return byte == std::byte{0}; });
  };
  return is_zero(offsetof(ArenaHeader, magic), sizeof(ArenaHeader::magic)) &&
         is_zero(offsetof(ArenaHeader, generations), sizeof(ArenaHeader::generations)) &&
         is_zero(offsetof(ArenaHeader, incarnation), sizeof(ArenaHeader::incarnation));
}

}  // namespace

struct Arena::Layout {
  /// `huge_page`: see `huge_page_bytes`. All parts of a file of those can be mapped alone.
  explicit Layout(std::uint64_t requested_bytes, std::uint64_t huge_page = 0) noexcept
      : huge_page_bytes(huge_page),
        capacity_bytes(huge_page > 0 ? rounded_up(requested_bytes, huge_page)
                                     : requested_bytes / kPageBytes * kPageBytes),
        seals_bytes(rounded_up(capacity_bytes / kPageBytes * sizeof(Seal), kPageBytes)),
        slots_offset(rounded_up(kPageBytes + seals_bytes, std::max(kHugePageBytes, huge_page))),
        file_bytes(slots_offset + capacity_bytes) {}

  /// Bytes of memory that it takes: the gap before the slots is a hole.
  [[nodiscard]] std::uint64_t resident_bytes() const noexcept {
    return huge_page_bytes > 0 ? file_bytes : kPageBytes + seals_bytes + capacity_bytes;
  }

  std::uint64_t huge_page_bytes;
  std::uint64_t capacity_bytes;
  std::uint64_t seals_bytes;
  std::uint64_t slots_offset;
  std::uint64_t file_bytes;
};

Result<std::unique_ptr<Arena>> Arena::open(const ArenaConfig& config) {
  if (!good_name(config.name)) return fail(Errc::invalid_argument, "the arena's name");
  if (config.capacity_bytes < kPageBytes || config.capacity_bytes > kMaxCapacityBytes) {
    return fail(Errc::invalid_argument, "an arena's capacity is 4 KiB to 8 TiB");
  }
  const std::string path = config.directory + "/membrain-" + config.name;
  Result<Descriptor> file = open_locked(path);
  if (!file) return fail(file.error());
  const Layout layout(config.capacity_bytes, huge_page_bytes(file->fd()));
  struct stat status {};
  if (::fstat(file->fd(), &status) != 0) return fail(Errc::denied, "fstat", errno);
  if (status.st_size > 0 && (config.fresh || unfinished(file->fd()))) {
    // Removed, not truncated: whoever still maps the old one keeps its memory.
    ::unlink(path.c_str());
    Result<Descriptor> replacement = open_locked(path);
    if (!replacement) return fail(replacement.error());
    *file = std::move(*replacement);
    status.st_size = 0;
  }
  std::unique_ptr<Arena> arena(new Arena);
  arena->file_ = std::move(*file);
  const bool empty = status.st_size == 0;
  if (!empty && static_cast<std::uint64_t>(status.st_size) != layout.file_bytes) {
    log(LogLevel::error, "arena {}: it was made with another capacity; start with --fresh", path);
    return fail(Errc::invalid_argument, "the arena has another capacity: start with --fresh");
  }
  if (empty) {
    if (const Result<> created = arena->create(layout, config); !created) {
      ::unlink(path.c_str());
      return fail(created.error());
    }
    return arena;
  }
  if (const Result<> mapped = arena->map(arena->file_.fd(), layout); !mapped)
    return fail(mapped.error());
  arena->populate(layout, kPopulateRead);
  if (const Result<> sound = arena->adopt(layout, path); !sound) return fail(sound.error());
  return arena;
}

Result<std::unique_ptr<Arena>> Arena::anonymous(std::uint64_t capacity_bytes, NodeId node) {
  if (capacity_bytes < kPageBytes || capacity_bytes > kMaxCapacityBytes) {
    return fail(Errc::invalid_argument, "an arena's capacity is 4 KiB to 8 TiB");
  }
  const Layout layout(capacity_bytes);
  std::unique_ptr<Arena> arena(new Arena);
  if (const Result<> mapped = arena->map(-1, layout); !mapped) return fail(mapped.error());
  arena->format(layout, node);
  return arena;
}

Arena::~Arena() {
  if (!mapping_.empty()) ::munmap(mapping_.data(), mapping_.size());
}

std::unique_ptr<Arena> Arena::copy() const {
  const Layout layout(capacity_bytes());
  std::unique_ptr<Arena> twin(new Arena);
  const Result<> mapped = twin->map(-1, layout);
  check(mapped.has_value(), "no memory for a copy of an arena");
  const std::size_t before_the_gap = kPageBytes + layout.seals_bytes;
  std::memcpy(twin->mapping_.data(), mapping_.data(), before_the_gap);
  std::memcpy(twin->slots_.data(), slots_.data(), slots_.size());
  twin->adopted_ = true;
  return twin;
}

Result<> Arena::create(const Layout& layout, const ArenaConfig& config) {
  if (::ftruncate(file_.fd(), static_cast<off_t>(layout.file_bytes)) != 0) {
    return fail(Errc::out_of_capacity, "the arena's file cannot have its size", errno);
  }
  if (const Result<> mapped = map(file_.fd(), layout); !mapped) {
    return layout.huge_page_bytes > 0 ? too_few_huge_pages(layout, config) : mapped;
  }
  if (const Result<> reserved = reserve(layout, config); !reserved) return reserved;
  format(layout, {});
  return {};
}

/// Mapping has reserved them all, or failed.
Result<> Arena::too_few_huge_pages(const Layout& layout, const ArenaConfig& config) {
  const std::uint64_t page = layout.huge_page_bytes;
  const std::uint64_t needed = layout.file_bytes / page;
  const std::uint64_t all = count_pages(page, "nr_hugepages");
  const std::uint64_t promised = count_pages(page, "resv_hugepages");
  const std::uint64_t free = std::max(count_pages(page, "free_hugepages"), promised) - promised;
  log(LogLevel::error,
      "arena {}: {} needs {} huge pages of {} KiB and the machine has {} free: set aside more "
      "(vm.nr_hugepages={} if that is their usual size), mount it with a larger size, or ask for "
      "less",
      config.name, config.directory, needed, page >> 10, free,
      all + (needed > free ? needed - free : 0));
  return fail(Errc::out_of_capacity, "too few free huge pages: raise vm.nr_hugepages", ENOMEM);
}

/// Takes every page now: a full file system is an error here, and no fault (SIGBUS) later.
Result<> Arena::reserve(const Layout& layout, const ArenaConfig& config) {
  struct statvfs space {};
  const std::uint64_t needed = layout.resident_bytes();
  // A hugetlbfs has kept them free since the file was mapped.
  const bool known = layout.huge_page_bytes == 0 && ::fstatvfs(file_.fd(), &space) == 0;
  const std::uint64_t free_bytes = known ? std::uint64_t{space.f_bavail} * space.f_frsize : 0;
  // A file system without a limit of its own reports no blocks at all.
  int failed = known && space.f_blocks > 0 && free_bytes < needed ? ENOSPC : 0;
  if (failed == 0) {
    log(LogLevel::info, "arena {}: taking {} MiB of {}", config.name, (needed >> 20) + 1,
        config.directory);
    populate(layout, kPopulateWrite);
  }
  const auto take = [&](std::uint64_t offset, std::uint64_t bytes) {
    if (failed != 0) return;
    failed = ::posix_fallocate(file_.fd(), static_cast<off_t>(offset), static_cast<off_t>(bytes));
  };
  take(0, kPageBytes + layout.seals_bytes);
  take(layout.slots_offset, layout.capacity_bytes);
  if (failed == 0) return {};
  log(LogLevel::error,
      "arena {}: {} needs {} MiB and has {} MiB free ({}): ask for less, or free some", config.name,
      config.directory, (needed >> 20) + 1, free_bytes >> 20, std::strerror(failed));
  return fail(Errc::out_of_capacity, "too little shared memory for the arena", failed);
}

Result<> Arena::map(int fd, const Layout& layout) {
  const int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = ::mmap(nullptr, layout.file_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (memory == MAP_FAILED) return fail(Errc::out_of_capacity, "the arena's mmap", errno);
  mapping_ = {static_cast<std::byte*>(memory), layout.file_bytes};
  header_ = static_cast<ArenaHeader*>(memory);
  seals_ = {reinterpret_cast<Seal*>(mapping_.data() + kPageBytes),
            layout.capacity_bytes / kPageBytes};
  slots_ = mapping_.subspan(layout.slots_offset, layout.capacity_bytes);
  return {};
}

/// Maps every page, if it can huge ones, so that no store waits for a page fault.
void Arena::populate(const Layout& layout, int advice) noexcept {
  if (layout.huge_page_bytes == 0 && !ask_for_huge_pages(slots_)) {
    log(LogLevel::info, "arena: no huge pages for shared memory on this machine; small ones it is");
  }
  // What it cannot fill (an older kernel, too little memory) is left to the reservation.
  static_cast<void>(::madvise(slots_.data(), slots_.size(), advice));
}

void Arena::format(const Layout& layout, NodeId node) noexcept {
  while (!node) node = NodeId{static_cast<std::uint32_t>(random_u64())};
  header_->version = ArenaHeader::kVersion;
  header_->node = node.value;
  header_->capacity_bytes = layout.capacity_bytes;
  header_->seals_offset = kPageBytes;
  header_->slots_offset = layout.slots_offset;
  header_->generations.store(0);
  header_->incarnation.store(0);
  header_->layout_check = header_->check_of();
  header_->magic.store(ArenaHeader::kMagic);
}

Result<> Arena::adopt(const Layout& layout, const std::string& path) {
  const bool sound = header_->sound() && header_->capacity_bytes == layout.capacity_bytes &&
                     header_->slots_offset == layout.slots_offset &&
                     header_->generations.load() <= kMaxGeneration &&
                     header_->incarnation.load() != UINT32_MAX;
  if (!sound) {
    log(LogLevel::error, "arena {}: its header is damaged; start with --fresh", path);
    return fail(Errc::corrupt, "the arena's header is damaged: start with --fresh");
  }
  adopted_ = true;
  return {};
}

Result<Descriptor> Arena::open_again(bool writable) const {
  if (!file_) return fail(Errc::unavailable, "an anonymous arena has no file");
  // Opened anew: a duplicate would share the lock.
  const std::string path = "/proc/self/fd/" + std::to_string(file_.fd());
  Descriptor shared(::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!shared) return fail(Errc::unavailable, "the arena's file cannot be opened again", errno);
  return shared;
}

Result<Arena::Writable> Arena::share_writable() const {
  Result<Descriptor> file = open_again(true);
  if (!file) return fail(file.error());
  WriterId writer;
  while (!writer) writer = WriterId{random_u64() & kWriterMask};
  struct flock lock = writer_lock(writer, F_RDLCK);
  if (::fcntl(file->fd(), F_OFD_SETLK, &lock) != 0) {
    return fail(Errc::unavailable, "a writer's lock on the arena", errno);
  }
  return Writable{std::move(*file), writer};
}

bool Arena::writer_alive(WriterId writer) const noexcept {
  if (!file_ || !writer || (writer.value & ~kWriterMask) != 0) return false;
  struct flock lock = writer_lock(writer, F_WRLCK);
  return ::fcntl(file_.fd(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void Arena::know(Generation given) noexcept {
  generations().store(std::max(generations().load(), given.value));
}

NodeId Arena::node() const noexcept {
  return NodeId{header_->node};
}

Incarnation Arena::incarnation() const noexcept {
  return Incarnation{header_->incarnation.load()};
}

Incarnation Arena::begin_life() noexcept {
  const Incarnation now{header_->incarnation.fetch_add(1) + 1};
  adopted_ = adopted_ || now.value > 1;
  return now;
}

std::atomic<std::uint64_t>& Arena::generations() noexcept {
  return header_->generations;
}

std::span<std::byte> Arena::memory(SlotId slot, std::size_t length) const noexcept {
  const std::uint64_t offset = std::uint64_t{slot.value} * kPageBytes;
  check(offset <= slots_.size() && length <= slots_.size() - offset, "a slot outside the arena");
  return slots_.subspan(offset, length);
}

}  // namespace membrain
