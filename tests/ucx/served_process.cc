#include "tests/ucx/served_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "tests/ucx/block_server.h"
#include "transport/ucx/socket.h"

namespace membrain::ucx_test {

namespace {

constexpr std::string_view kServe = "--serve=";
constexpr std::string_view kAgent = "--agent=";
constexpr std::string_view kRun = "run ";  ///< what the agent is asked, if not for a lane

/// Up to the end of the line, or of what there is.
std::string read_line(int fd) {
  std::string line;
  char byte = 0;
  while (::read(fd, &byte, 1) == 1 && byte != '\n') line += byte;
  return line;
}

void write_line(int fd, std::string line) {
  line += '\n';
  const ssize_t wrote = ::send(fd, line.data(), line.size(), MSG_NOSIGNAL);
  EXPECT_EQ(wrote, static_cast<ssize_t>(line.size())) << line;
}

class LocalProcess final : public ServedProcess {
 public:
  LocalProcess(const std::string& lane, const Address& listen);
  ~LocalProcess() override {
    if (pid_ <= 0) return;
    signal(SIGKILL);
    wait();
  }
  LocalProcess(const LocalProcess&) = delete;
  LocalProcess& operator=(const LocalProcess&) = delete;

  [[nodiscard]] Address address() const override { return address_; }
  void signal(int number) override { ::kill(pid_, number); }
  int end() override {
    ::close(std::exchange(input_, -1));
    return wait();
  }
  [[nodiscard]] std::set<std::uint16_t> data_ports() const override;

 private:
  int wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    if (input_ >= 0) ::close(std::exchange(input_, -1));
    return status;
  }

  Address address_;
  pid_t pid_ = -1;
  int input_ = -1;
};

LocalProcess::LocalProcess(const std::string& lane, const Address& listen) {
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  EXPECT_EQ(::pipe2(in.data(), O_CLOEXEC), 0);
  EXPECT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  std::string flag = std::string(kServe).append(lane).append("@").append(listen);
  std::string name = "/proc/self/exe";
  std::array<char*, 3> arguments{name.data(), flag.data(), nullptr};
  EXPECT_EQ(::posix_spawn(&pid_, name.c_str(), &actions, nullptr, arguments.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  input_ = in[1];
  address_ = read_line(out[0]);
  ::close(out[0]);
}

std::set<std::uint16_t> LocalProcess::data_ports() const {
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
    if (!address_.ends_with(std::string(":").append(std::to_string(port)))) {
      ports.insert(static_cast<std::uint16_t>(port));
    }
  }
  return ports;
}

/// A connection to the agent, which has been asked.
int ask_agent(const std::string& request) {
  const SocketAddress to = resolve(agent_address()).value();
  const int fd = ::socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(fd, to.get(), to.size), 0) << "no agent at " << agent_address();
  write_line(fd, request);
  return fd;
}

/// Its connection holds the process, which dies with it.
class RemoteProcess final : public ServedProcess {
 public:
  explicit RemoteProcess(const std::string& lane)
      : fd_(ask_agent(lane)), address_(read_line(fd_)) {}
  ~RemoteProcess() override { ::close(fd_); }
  RemoteProcess(const RemoteProcess&) = delete;
  RemoteProcess& operator=(const RemoteProcess&) = delete;

  [[nodiscard]] Address address() const override { return address_; }
  void signal(int number) override {
    write_line(fd_, std::to_string(number));
    read_line(fd_);  // it has been sent
  }
  int end() override {
    write_line(fd_, "end");
    return std::atoi(read_line(fd_).c_str());
  }

 private:
  int fd_;
  Address address_;
};

/// One test's process: a line each for what is asked and what is answered.
void assist(int fd, const Address& listen) {
  const std::string lane = read_line(fd);
  if (lane.starts_with(kRun)) {
    write_line(fd, "running");
    std::exit(std::system(lane.substr(kRun.size()).c_str()));
  }
  LocalProcess process(lane, listen);
  write_line(fd, process.address());
  for (std::string asked = read_line(fd); !asked.empty(); asked = read_line(fd)) {
    if (asked == "end") return write_line(fd, std::to_string(process.end()));
    process.signal(std::atoi(asked.c_str()));
    write_line(fd, "sent");
  }
}

}  // namespace

std::string agent_address() {
  const char* agent = std::getenv("MEMBRAIN_TEST_AGENT");
  return agent != nullptr ? agent : "";
}

std::unique_ptr<ServedProcess> ServedProcess::start(const std::string& lane) {
  if (agent_address().empty()) return std::make_unique<LocalProcess>(lane, "127.0.0.1:0");
  return std::make_unique<RemoteProcess>(lane);
}

void run_on_agents_host(const std::string& line) {
  const int fd = ask_agent(std::string(kRun) + line);
  EXPECT_EQ(read_line(fd), "running");
  ::close(fd);
}

int run_agent(const Address& address) {
  ::signal(SIGCHLD, SIG_DFL);
  const Descriptor listener = open_listener(resolve(address).value()).value();
  ::fcntl(listener.fd(), F_SETFL, 0);  // it waits
  for (;;) {
    const int fd = ::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return 1;
    if (::fork() == 0) {  // UCX is not in use here
      assist(fd, with_port(address, 0));
      ::_exit(0);
    }
    ::close(fd);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

int serve_or_assist(int argc, char** argv) {
  if (argc != 2) return -1;
  const std::string_view argument = argv[1];
  if (argument.starts_with(kAgent)) return run_agent(Address(argument.substr(kAgent.size())));
  if (!argument.starts_with(kServe)) return -1;
  const std::size_t at = argument.find('@');
  const std::string_view name = argument.substr(kServe.size(), at - kServe.size());
  const std::optional<Lane> lane = lane_named(name);
  return lane ? serve_blocks(*lane, Address(argument.substr(at + 1))) : 2;
}

}  // namespace membrain::ucx_test
