#include "server/cluster/replace_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "transport/descriptor.h"

namespace membrain {
namespace {

Result<> write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return file_failed("writing the file");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<> write_file(int directory, const char* name, std::span<const std::byte> bytes) {
  const Descriptor file(::openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return file_failed("creating the file");
  if (const Result<> written = write_all(file.fd(), bytes); !written) return written;
  if (::fsync(file.fd()) != 0) return file_failed("syncing the file");
  return {};
}

}  // namespace

tl::unexpected<Error> file_failed(std::string_view what) noexcept {
  const int why = errno;
  Errc code = Errc::unavailable;
  if (why == ENOSPC || why == EDQUOT) code = Errc::out_of_capacity;
  if (why == EACCES || why == EPERM || why == EROFS) code = Errc::denied;
  return fail(code, what, why);
}

/// The old file is whole until the new one is on disk.
Result<> replace_file(int directory, const std::string& name, std::span<const std::byte> bytes) {
  const std::string fresh = name + ".new";
  const Result<> written = write_file(directory, fresh.c_str(), bytes);
  if (!written) {
    ::unlinkat(directory, fresh.c_str(), 0);
    return written;
  }
  if (::renameat(directory, fresh.c_str(), directory, name.c_str()) != 0) {
    return file_failed("replacing the file");
  }
  if (::fsync(directory) != 0) return file_failed("syncing the directory");
  return {};
}

}  // namespace membrain
