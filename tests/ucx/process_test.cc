// Real processes: a server of blocks that is killed, stopped, or talked to by strangers. The
// program starts itself again with --serve; it never forks once UCX is in use.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <set>
#include <sstream>
#include <utility>

#include "tests/ucx/party.h"
#include "transport/ucx/socket.h"

namespace membrain::ucx_test {
namespace {

/// Over TCP half of the blocks travel with their message, and half are received by rendezvous.
std::size_t block_bytes(std::size_t number) {
  return number % 2 == 0 ? 1u << 20 : 2u << 20;
}

// --- The served process. ---

/// Answers "N" with block N, and takes what it is sent, until its standard input ends.
class BlockServer final : public Receiver {
 public:
  explicit BlockServer(Fabric& fabric) : fabric_(fabric) {}
  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override {
    if (payload.size() != 0) return take(std::move(payload));
    std::size_t number = 0;
    std::memcpy(&number, frame.data(), std::min(sizeof number, frame.size()));
    sends_.remove_if([](const Sending& sending) { return sending.sent.done(); });
    Sending& sending =
        sends_.emplace_back(fabric_.loop().ready(), pattern(block_bytes(number), number));
    const Segment block = all_of(sending.block);
    fabric_.send(peer, frame, {&block, 1}, sending.sent);
  }
  void on_lost(PeerId, const Error&) override {}

 private:
  struct Sending {
    Sending(ReadyQueue& ready, std::vector<std::byte> bytes)
        : block(std::move(bytes)), sent(ready) {}
    std::vector<std::byte> block;
    Completion sent;
  };
  void take(Payload payload) {
    sends_.remove_if([](const Sending& sending) { return sending.sent.done(); });
    Sending& taking =
        sends_.emplace_back(fabric_.loop().ready(), std::vector<std::byte>(payload.size()));
    const Segment block = all_of(taking.block);
    fabric_.receive(std::move(payload), {&block, 1}, taking.sent);
  }
  Fabric& fabric_;
  std::list<Sending> sends_;  ///< and takings
};

class StandardInput final : public FdHandler {
 public:
  explicit StandardInput(Loop& loop) : loop_(loop) {}
  void on_ready(std::uint32_t) override {
    char byte = 0;
    if (::read(STDIN_FILENO, &byte, 1) <= 0) loop_.stop();
  }

 private:
  Loop& loop_;
};

int serve(const char* transports) {
  SteadyClock clock;
  Loop loop(clock);
  auto fabric =
      make_ucx_fabric(make_context(transports), loop, {std::string(kSecret), "served"}).value();
  BlockServer server(*fabric);
  fabric->set_receiver(server);
  std::printf("%s\n", fabric->listen("127.0.0.1:0").value().c_str());
  std::fflush(stdout);
  StandardInput input(loop);
  if (!loop.watch(STDIN_FILENO, EPOLLIN, input)) return 1;
  loop.run();
  loop.unwatch(STDIN_FILENO);
  fabric.reset();
  return 0;
}

// --- The tests' side. ---

class ServerProcess {
 public:
  explicit ServerProcess(const std::string& transports) {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    EXPECT_EQ(::pipe2(in.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    std::string flag = "--serve=" + transports;
    std::string name = "/proc/self/exe";
    std::array<char*, 3> arguments{name.data(), flag.data(), nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, name.c_str(), &actions, nullptr, arguments.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(in[0]);
    ::close(out[1]);
    input_ = in[1];
    char byte = 0;
    while (::read(out[0], &byte, 1) == 1 && byte != '\n') address += byte;
    ::close(out[0]);
  }
  ~ServerProcess() {
    if (pid_ <= 0) return;
    send(SIGKILL);
    wait();
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  void send(int signal) const { ::kill(pid_, signal); }
  /// Asks it to end; its exit status.
  int end() {
    ::close(std::exchange(input_, -1));
    return wait();
  }
  int wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    if (input_ >= 0) ::close(std::exchange(input_, -1));
    return status;
  }
  /// The TCP ports on which it listens, its public one aside: UCX's.
  [[nodiscard]] std::set<std::uint16_t> data_ports() const;

  Address address;

 private:
  pid_t pid_ = -1;
  int input_ = -1;
};

std::set<std::uint16_t> ServerProcess::data_ports() const {
  const std::string folder = "/proc/" + std::to_string(pid_);
  std::set<std::string> sockets;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry, gone).string();
    if (target.starts_with("socket:[")) sockets.insert(target.substr(8, target.size() - 9));
  }
  std::set<std::uint16_t> ports;
  std::ifstream table(folder + "/net/tcp");
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string number, local, remote, state, queues, timer, retries, user, timeout, inode;
    fields >> number >> local >> remote >> state >> queues >> timer >> retries >> user >> timeout;
    fields >> inode;
    if (state != "0A" || !sockets.contains(inode)) continue;  // 0A: listening
    const auto port = std::stoul(local.substr(local.find(':') + 1), nullptr, 16);
    if (!address.ends_with(std::string(":").append(std::to_string(port)))) {
      ports.insert(static_cast<std::uint16_t>(port));
    }
  }
  return ports;
}

struct Lane {
  const char* transports;
  std::string_view name;
};

class UcxProcess : public testing::TestWithParam<Lane> {
 protected:
  void SetUp() override {
    peer_ = connect(party_, server_.address, {}).value();
    EXPECT_EQ(party_.fabric().lane(peer_), GetParam().name);
  }
  void ask(std::size_t number) {
    ASSERT_TRUE(party_.fabric().send(peer_, std::as_bytes(std::span(&number, 1))));
  }
  /// Begins to receive whatever has been offered.
  void take_offers() {
    for (Message& message : party_.messages) {
      std::size_t number = 0;
      std::memcpy(&number, message.frame.data(), sizeof number);
      Landing& landing = landings_.emplace_back(party_.loop().ready(), number);
      const Segment sink = all_of(landing.block);
      party_.fabric().receive(std::move(message.payload), {&sink, 1}, landing.received);
    }
    party_.messages.clear();
  }
  [[nodiscard]] bool all_landed() const {
    return std::all_of(landings_.begin(), landings_.end(),
                       [](const Landing& landing) { return landing.received.done(); });
  }
  /// Fetches and checks.
  void fetch(std::size_t count) {
    std::size_t asked = 0;
    std::size_t done = 0;
    const bool all = drive({&party_}, [&] {
      take_offers();
      while (!landings_.empty() && landings_.front().received.done()) {
        EXPECT_TRUE(landings_.front().received.outcome());
        const std::size_t number = landings_.front().number;
        EXPECT_TRUE(landings_.front().block == pattern(block_bytes(number), number));
        landings_.pop_front();
        ++done;
      }
      for (; asked < count && asked < done + 4; ++asked) ask(asked);
      return done == count;
    });
    EXPECT_TRUE(all);
  }
  /// Asks for blocks, and goes on until some are on their way.
  void begin_to_fetch(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) ask(i);
    ASSERT_TRUE(drive({&party_}, [&] { return !party_.messages.empty(); }));
    take_offers();
  }

  struct Landing {
    Landing(ReadyQueue& ready, std::size_t of)
        : number(of), block(block_bytes(of)), received(ready) {}
    std::size_t number;
    std::vector<std::byte> block;
    Completion received;
  };
  std::list<Landing> landings_;
  ServerProcess server_{GetParam().transports};
  Party party_{make_context(GetParam().transports)};
  PeerId peer_;
};

TEST_P(UcxProcess, FetchesBlocksFromAnother) {
  fetch(100);
  ASSERT_TRUE(close(party_, peer_, {}));
  EXPECT_EQ(server_.end(), 0);
}

TEST_P(UcxProcess, LearnsOfAKilledPeerAndEndsItsReceives) {
  begin_to_fetch(16);
  server_.send(SIGKILL);
  EXPECT_TRUE(drive({&party_}, [&] {
    take_offers();
    return party_.lost == std::vector{peer_};
  }));
  EXPECT_TRUE(drive(
      {&party_}, [&] { return all_landed(); }, seconds(1)));
}

TEST_P(UcxProcess, ClosesAStoppedPeerWithoutItsHelp) {
  begin_to_fetch(16);
  server_.send(SIGSTOP);
  ASSERT_TRUE(close(party_, peer_, {}));
  EXPECT_TRUE(all_landed());
  for (Landing& landing : landings_) {
    std::fill(landing.block.begin(), landing.block.end(), std::byte{7});
  }
  server_.send(SIGCONT);
  drive(
      {&party_}, [] { return false; }, milliseconds(200));
  for (const Landing& landing : landings_) {
    EXPECT_TRUE(landing.block == std::vector<std::byte>(landing.block.size(), std::byte{7}));
  }
  // The server has lost a client and goes on.
  peer_ = connect(party_, server_.address, {}).value();
  landings_.clear();
  fetch(8);
  EXPECT_EQ(server_.end(), 0);
}

TEST_P(UcxProcess, OutlivesAClientThatIsStoppedAndKilledAmidBulk) {
  // Here the other process is the receiver's side of nothing: it only stops taking what we send.
  std::list<Completion> sent;
  std::vector<std::byte> block = pattern(8u << 20, 1);
  const Segment source = all_of(block);
  server_.send(SIGSTOP);
  for (int i = 0; i < 4; ++i) {
    sent.emplace_back(party_.loop().ready());
    party_.fabric().send(peer_, as_bytes("unasked"), {&source, 1}, sent.back());
    ASSERT_TRUE(party_.fabric().send(peer_, pattern(200'000, 1)));
  }
  ASSERT_TRUE(close(party_, peer_, {}));
  for (const Completion& one : sent) EXPECT_TRUE(one.done());
  server_.send(SIGKILL);
  drive(
      {&party_}, [] { return false; }, milliseconds(300));
}

TEST_P(UcxProcess, OutlivesReceiversThatAreKilledAmidBulk) {
  // What ended the process with zero-copy sends: a half-written one whose socket fails.
  std::vector<std::byte> block = pattern(block_bytes(1), 1);
  for (std::size_t round = 0; round < 12; ++round) {
    ServerProcess taker(GetParam().transports);
    const PeerId peer = connect(party_, taker.address, {}).value();
    party_.lost.clear();
    std::list<Completion> sent;
    for (std::size_t i = 0; i < 24; ++i) {
      const Segment source{block.data(), block_bytes(i / 2), nullptr};
      sent.emplace_back(party_.loop().ready());
      party_.fabric().send(peer, as_bytes("unasked"), {&source, 1}, sent.back());
    }
    const auto count_done = [&] {
      return std::count_if(sent.begin(), sent.end(), [](const auto& one) { return one.done(); });
    };
    ASSERT_TRUE(drive({&party_}, [&] { return count_done() > 2 * static_cast<long>(round % 6); }));
    if (round % 3 == 1) taker.send(SIGSTOP);
    if (round % 3 == 2) {
      ASSERT_TRUE(close(party_, peer, {}));
    }
    taker.send(SIGKILL);
    EXPECT_TRUE(drive({&party_}, [&] {
      return count_done() == 24 && (round % 3 == 2 || party_.lost == std::vector{peer});
    }));
  }
}

TEST_P(UcxProcess, BearsJunkOnUcxsOwnPorts) {
  const std::set<std::uint16_t> ports = server_.data_ports();
  EXPECT_TRUE(GetParam().name != "tcp" || !ports.empty());
  std::vector<std::vector<std::byte>> junk = {
      std::vector<std::byte>(200, std::byte{0}), std::vector<std::byte>(200, std::byte{0xff}),
      std::vector<std::byte>(3, std::byte{1}), std::vector<std::byte>(100'000, std::byte{0x5a}),
      pattern(5000, 3)};
  for (const std::uint16_t port : ports) {
    for (const std::vector<std::byte>& bytes : junk) {
      const SocketAddress to = resolve(with_port("127.0.0.1:0", port)).value();
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      ASSERT_EQ(::connect(fd, to.get(), to.size), 0);
      EXPECT_GE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT), 0);
      drive(
          {&party_}, [] { return false; }, milliseconds(5));
      ::close(fd);
    }
  }
  fetch(8);
  EXPECT_EQ(server_.end(), 0);
}

INSTANTIATE_TEST_SUITE_P(Lanes, UcxProcess, testing::Values(Lane{kTcp, "tcp"}, Lane{kShm, "shm"}),
                         [](const auto& lane) { return std::string(lane.param.name); });

}  // namespace
}  // namespace membrain::ucx_test

int main(int argc, char** argv) {
  constexpr std::string_view kServe = "--serve=";
  if (argc == 2 && std::string_view(argv[1]).starts_with(kServe)) {
    return membrain::ucx_test::serve(argv[1] + kServe.size());
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
