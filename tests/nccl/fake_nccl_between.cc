// Another fake NCCL, for two members in two processes: a socket is their network. All that the
// members' threads and clocks do stays as it is; what can go wrong is the other fake's to show.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "tests/cuda/fake_gpu.h"
#include "transport/nccl/api.h"

using namespace membrain::nccl;
using membrain::cuda::RawStream;
using membrain::cuda::fake::Gpu;

namespace membrain::nccl {
struct CommState {
  int rank = 0;
  int listening = -1;  // at the first member
  sockaddr_un first{};
  int wire = -1;
  bool greeted = false;
  Status joined = kInProgress;
  ~CommState() { ::close(listening), ::close(wire); }
};
}  // namespace membrain::nccl

namespace {

constexpr Status kSystemError = 2;
constexpr int kPatienceMs = 20'000;

/// An abstract name: no file is left behind.
sockaddr_un address_of(const UniqueId& id) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, id.bytes.data(), sizeof address.sun_path - 2);
  return address;
}

int new_socket() {
  return ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/// Whether the other member is there.
bool met(CommState& comm) {
  if (comm.wire >= 0) return true;
  if (comm.rank == 0) {
    comm.wire = ::accept4(comm.listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return comm.wire >= 0;
  }
  const int wire = new_socket();
  const auto* const to = reinterpret_cast<const sockaddr*>(&comm.first);
  if (::connect(wire, to, sizeof comm.first) == 0) return comm.wire = wire, true;
  ::close(wire);
  return false;
}

/// On which host a member takes itself to be.
using HostName = std::array<char, 64>;
HostName host_name() {
  HostName name{};
  const char* const id = ::getenv("NCCL_HOSTID");
  const std::string_view known(id == nullptr ? "" : id);
  known.substr(0, name.size()).copy(name.data(), name.size());
  return name;
}

/// Like NCCL's, it takes two members of a host for two uses of its one GPU, and refuses.
Status greet(CommState& comm) {
  const HostName mine = host_name();
  if (!std::exchange(comm.greeted, true)) {
    static_cast<void>(::send(comm.wire, mine.data(), mine.size(), MSG_NOSIGNAL));
  }
  HostName theirs{};
  const ssize_t got = ::recv(comm.wire, theirs.data(), theirs.size(), 0);
  if (got < 0) return kInProgress;
  const bool whole = got == static_cast<ssize_t>(theirs.size());
  return whole && theirs != mine ? kSuccess : kInvalidUsage;
}

/// Moves all of it, on the GPU's thread. What does not come in time is left out: the members'
/// checksums find that.
template <class Move>
void move_all(int wire, short event, char* bytes, std::size_t count, Move move) {
  for (std::size_t done = 0; done < count;) {
    pollfd ready{wire, event, 0};
    if (::poll(&ready, 1, kPatienceMs) != 1) return;
    const ssize_t moved = move(wire, bytes + done, count - done);
    if (moved <= 0) return;
    done += static_cast<std::size_t>(moved);
  }
}

}  // namespace

extern "C" {

Status ncclGetVersion(std::int32_t* version) {
  *version = kOldestVersion;
  return kSuccess;
}

Status ncclGetUniqueId(UniqueId* id) {
  static int made = 0;
  const std::string text =
      "membrain-fake-nccl-" + std::to_string(::getpid()) + "-" + std::to_string(++made);
  *id = {};
  std::memcpy(id->bytes.data(), text.data(), text.size());
  return kSuccess;
}

/// The first member listens from then on; the second connects when it is asked how things are.
Status ncclCommInitRankConfig(Comm* comm, std::int32_t size, UniqueId id, std::int32_t rank,
                              Config* config) {
  if (size != 2 || rank < 0 || rank > 1 || config->blocking != 0) return kInvalidArgument;
  const sockaddr_un address = address_of(id);
  auto* const made = new CommState;
  made->rank = rank;
  *comm = made;
  if (rank == 0) {
    made->listening = new_socket();
    const auto* const at = reinterpret_cast<const sockaddr*>(&address);
    const bool listens =
        ::bind(made->listening, at, sizeof address) == 0 && ::listen(made->listening, 1) == 0;
    return listens ? kInProgress : kSystemError;
  }
  made->first = address;
  return kInProgress;
}

Status ncclCommGetAsyncError(Comm comm, Status* status) {
  if (comm->joined == kInProgress && met(*comm)) comm->joined = greet(*comm);
  *status = comm->joined;
  return kSuccess;
}

Status ncclBroadcast(const void* from, void* to, std::size_t count, std::int32_t type,
                     std::int32_t root, Comm comm, RawStream stream) {
  if (type != kUint8 || root < 0 || root > 1) return kInvalidArgument;
  const int wire = comm->wire;
  if (comm->rank == root) {
    auto* const bytes = const_cast<char*>(static_cast<const char*>(from));
    Gpu::instance().queue(stream, [=] {
      move_all(wire, POLLOUT, bytes, count, [](int socket, char* next, std::size_t left) {
        return ::send(socket, next, left, MSG_NOSIGNAL);
      });
    });
  } else {
    Gpu::instance().queue(stream, [=] {
      move_all(
          wire, POLLIN, static_cast<char*>(to), count,
          [](int socket, char* next, std::size_t left) { return ::recv(socket, next, left, 0); });
    });
  }
  return kSuccess;
}

Status ncclCommAbort(Comm comm) {
  Gpu::instance().settle();
  delete comm;
  return kSuccess;
}

const char* ncclGetErrorString(Status) {
  return "an error of some kind";
}

const char* ncclGetLastError(Comm) {
  return "the fake NCCL between processes";
}

}  // extern "C"
