#include "bench/redis_process.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "tools/free_port.h"

namespace membrain {
namespace {

constexpr const char* kPrograms[] = {"/usr/bin/redis-server", "/usr/local/bin/redis-server"};
constexpr int kAttempts = 5;
constexpr int kPolls = 500;  // of 10 ms

const char* program() {
  for (const char* path : kPrograms) {
    if (::access(path, X_OK) == 0) return path;
  }
  return nullptr;
}

/// One I/O thread: with two cores and one client a second made nothing faster.
std::vector<std::string> words_for(const std::string& port) {
  return {program() == nullptr ? "redis-server" : program(),
          "--port",
          port,
          "--bind",
          "127.0.0.1",
          "--save",
          "",
          "--appendonly",
          "no",
          "--daemonize",
          "no",
          "--logfile",
          "/dev/null",
          "--dir",
          "/tmp"};
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool takes_connections(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  const bool taken =
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return taken;
}

/// In the child: Redis with the usual signals, killed when its parent goes.
[[noreturn]] void become(const std::vector<std::string>& words, pid_t parent) {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  ::execv(pointers[0], pointers.data());
  ::_exit(127);
}

}  // namespace

Outcome<std::unique_ptr<RedisProcess>> RedisProcess::start() {
  if (program() == nullptr) {
    return complain(
        "redis-server is not installed: install the Debian package redis-server "
        "(tools/setup.sh --all does)");
  }
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::unique_ptr<RedisProcess> process(new RedisProcess);
    if (process->run()) return process;
  }
  return complain(
      "redis-server did not take connections on 127.0.0.1; does \"redis-server "
      "--port 0 --save ''\" run by hand?");
}

bool RedisProcess::run() {
  port_ = free_port();
  if (port_ == 0) return false;
  const std::vector<std::string> words = words_for(std::to_string(port_));
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) become(words, parent);
  for (int poll = 0; pid_ > 0 && poll < kPolls; ++poll) {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return false;
    }
    if (takes_connections(port_)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

std::string RedisProcess::command_line(const std::string& port) {
  std::string line;
  for (const std::string& word : words_for(port)) {
    line += (line.empty() ? "" : " ") + (word.empty() ? "''" : word);
  }
  return line;
}

/// "Redis server v=7.0.15 sha=...": the third word.
std::string RedisProcess::version() {
  std::string said(256, '\0');
  FILE* const pipe =
      program() == nullptr ? nullptr : ::popen((std::string(program()) + " -v").c_str(), "r");
  if (pipe == nullptr) return "not installed";
  said.resize(std::fread(said.data(), 1, said.size(), pipe));
  ::pclose(pipe);
  const std::size_t begin = said.find("v=");
  if (begin == std::string::npos) return "unknown";
  return said.substr(begin + 2, said.find(' ', begin) - begin - 2);
}

RedisProcess::~RedisProcess() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace membrain
