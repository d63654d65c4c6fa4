#include "transport/nccl/library.h"

#include <dlfcn.h>

#include "base/log.h"
#include "transport/cuda/binder.h"

namespace membrain::nccl {

Result<std::shared_ptr<const Library>> Library::load(const std::string& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) return fail(Errc::unavailable, "no NCCL on this machine");
  const std::shared_ptr<Library> loaded(new Library);
  Api& api = loaded->api_;
  cuda::Binder binder(handle);
  binder.bind(api.version, "ncclGetVersion");
  binder.bind(api.unique_id, "ncclGetUniqueId");
  binder.bind(api.init_rank, "ncclCommInitRankConfig");
  binder.bind(api.async_error, "ncclCommGetAsyncError");
  binder.bind(api.broadcast, "ncclBroadcast");
  binder.bind(api.abort, "ncclCommAbort");
  binder.bind(api.error_text, "ncclGetErrorString");
  binder.bind(api.last_error, "ncclGetLastError");
  ::dlclose(handle);  // it stays, and so do the functions
  const bool whole = binder.missing() == nullptr;
  const bool known = whole && api.version(&loaded->version_) == kSuccess;
  if (!known || loaded->version_ < kOldestVersion) {
    log(LogLevel::warn, "NCCL is not used: {} is older than 2.20", library);
    return fail(Errc::unavailable, "the NCCL on this machine is older than 2.20");
  }
  return std::shared_ptr<const Library>(loaded);
}

std::string_view Library::text(Status status) const noexcept {
  const char* const text = api_.error_text(status);
  return text == nullptr ? "an unknown error" : text;
}

Result<UniqueId> Library::make_id() const {
  UniqueId id;
  const Status got = api_.unique_id(&id);
  if (got == kSuccess) return id;
  log(LogLevel::warn, "NCCL is not used: ncclGetUniqueId: {}: {}", text(got),
      api_.last_error(nullptr));
  return fail(Errc::unavailable, "NCCL does not start", got);
}

}  // namespace membrain::nccl
