// Callers that mean no good: they take no memory, no time of others, and do not keep it running.
#include "tools/admin_http.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tools/http_get.h"
#include "transport/ucx/socket.h"

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience(20);  // on a machine that has much else to do

std::unique_ptr<AdminHttp> started() {
  return AdminHttp::start("127.0.0.1:0", [] { return Outcome<std::string>("{}\n"); }).value();
}

Descriptor connected(const AdminHttp& admin) {
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress to = resolve(admin.address()).value();
  EXPECT_EQ(::connect(socket.fd(), to.get(), to.size), 0);
  return socket;
}

bool send(const Descriptor& socket, std::string_view text) {
  return ::send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

/// What comes until the other side hangs up; "still there" if it does not.
std::string answer_of(const Descriptor& socket) {
  std::string text;
  std::array<char, 4096> chunk;
  while (true) {
    pollfd wait{socket.fd(), POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(milliseconds(kPatience).count())) != 1) {
      return "still there";
    }
    const ssize_t got = ::recv(socket.fd(), chunk.data(), chunk.size(), 0);
    if (got <= 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

std::string asked(const AdminHttp& admin, std::string_view request) {
  const Descriptor socket = connected(admin);
  EXPECT_TRUE(send(socket, request));
  return answer_of(socket);
}

TEST(AdminHttp, AnswersWhatIsThere) {
  const auto admin = started();
  EXPECT_EQ(http_get(admin->address(), "/healthz", kPatience), "ok\n");
  EXPECT_EQ(http_get(admin->address(), "/status?a=b", kPatience), "{}\n");
  EXPECT_EQ(http_get(admin->address(), "/", kPatience), std::nullopt);
  EXPECT_TRUE(asked(*admin, "GET /other HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 404"));
  EXPECT_TRUE(asked(*admin, "POST /status HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
                  .starts_with("HTTP/1.1 405"));
  const std::string head = asked(*admin, "HEAD /healthz HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200")) << head;
  EXPECT_TRUE(head.ends_with("\r\n\r\n")) << head;
}

TEST(AdminHttp, SaysThatItIsNotWellAndWhy) {
  const auto admin = AdminHttp::start("127.0.0.1:0", []() -> Outcome<std::string> {
                       return complain("alas");
                     }).value();
  const std::string health = asked(*admin, "GET /healthz HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(health.starts_with("HTTP/1.1 503") && health.ends_with("alas\n")) << health;
  const std::string status = asked(*admin, "GET /status HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(status.ends_with("{\"error\":\"alas\"}\n")) << status;
}

TEST(AdminHttp, SaysWhyItCannotListen) {
  const auto admin = started();
  const auto second = AdminHttp::start(admin->address(), [] { return Outcome<std::string>(""); });
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text.find("in use"), std::string::npos) << second.error().text;
  const auto nowhere =
      AdminHttp::start("no.such.host.invalid:1", [] { return Outcome<std::string>(""); });
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().text.find("unknown host"), std::string::npos);
}

TEST(AdminHttp, HangsUpOnARequestWithoutAnEnd) {
  const auto admin = started();
  for (const std::string_view part : {"x", "a: b\r\n", "\n", "GET /"}) {
    const Descriptor socket = connected(*admin);
    std::string much;
    while (much.size() < 65536) much += part;
    std::size_t sent = 0;
    while (sent < 16u << 20 && send(socket, much)) sent += much.size();
    EXPECT_LT(sent, 16u << 20) << part;  // sooner or later nobody reads it
    EXPECT_NE(answer_of(socket), "still there") << part;
  }
  EXPECT_EQ(http_get(admin->address(), "/healthz", kPatience), "ok\n");
}

/// Sends a byte each 50 ms to all of `sockets` until it is destroyed.
class Trickle {
 public:
  explicit Trickle(const std::vector<Descriptor>& sockets)
      : thread_([this, &sockets] {
          while (!ended_) {
            for (const Descriptor& socket : sockets) send(socket, "G");
            ::poll(nullptr, 0, 50);
          }
        }) {}
  ~Trickle() {
    ended_ = true;
    thread_.join();
  }
  Trickle(const Trickle&) = delete;
  Trickle& operator=(const Trickle&) = delete;

 private:
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

std::vector<Descriptor> callers(const AdminHttp& admin, int count) {
  std::vector<Descriptor> sockets;
  for (int i = 0; i < count; ++i) sockets.push_back(connected(admin));
  return sockets;
}

TEST(AdminHttp, WhoeverTricklesKeepsNobodyElseWaitingAndIsHungUpOn) {
  const auto admin = started();
  const std::vector<Descriptor> slow = callers(*admin, 8);
  const Trickle trickle(slow);
  // Well before the two seconds after which they are hung up on.
  EXPECT_EQ(http_get(admin->address(), "/healthz", kPatience), "ok\n");
  for (const Descriptor& socket : slow) EXPECT_NE(answer_of(socket), "still there");
}

TEST(AdminHttp, OneHostHasSixteenPlacesAndTheyAreFreeAgain) {
  const auto admin = started();
  const std::vector<Descriptor> many = callers(*admin, 40);
  for (std::size_t i = 16; i < many.size(); ++i) EXPECT_EQ(answer_of(many[i]), "") << i;
  for (const Descriptor& socket : many) EXPECT_NE(answer_of(socket), "still there");
  EXPECT_EQ(http_get(admin->address(), "/healthz", kPatience), "ok\n");
}

TEST(AdminHttp, StoppingWaitsForNobody) {
  auto admin = started();
  const std::vector<Descriptor> silent = callers(*admin, 4);
  const std::vector<Descriptor> slow = callers(*admin, 4);
  const Trickle trickle(slow);
  EXPECT_EQ(http_get(admin->address(), "/healthz", kPatience), "ok\n");  // they have been taken
  admin.reset();
  for (const Descriptor& socket : silent) EXPECT_EQ(answer_of(socket), "");
}

}  // namespace
}  // namespace membrain
