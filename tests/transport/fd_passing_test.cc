// Files that come with packets, wanted or not.
#include "transport/fd_passing.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <span>
#include <vector>

namespace membrain {
namespace {

using State = local::Received::State;

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

class FdPassing : public testing::Test {
 protected:
  static constexpr std::size_t kMostFiles = 3;

  void SetUp() override {
    std::array<int, 2> ends{};
    constexpr int kKind = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;
    ASSERT_EQ(::socketpair(AF_UNIX, kKind, 0, ends.data()), 0);
    here_ = Descriptor(ends[0]);
    there_ = Descriptor(ends[1]);
  }
  /// What no honest end sends: any number of files beside any number of bytes.
  void send(std::size_t bytes, std::size_t files) {
    std::vector<std::byte> packet(bytes);
    iovec piece{packet.data(), packet.size()};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostFiles * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(files * sizeof(int));
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(files * sizeof(int));
    const std::vector<int> all(files, file_.fd());
    std::memcpy(CMSG_DATA(rights), all.data(), files * sizeof(int));
    ASSERT_EQ(::sendmsg(there_.fd(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  }
  local::Received receive() { return local::receive(here_, into_); }

  const Descriptor file_{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  Descriptor here_;
  Descriptor there_;
  std::array<std::byte, 8> into_{};
};

TEST_F(FdPassing, BringsOneFile) {
  const std::array<std::byte, 5> packet{};
  ASSERT_TRUE(local::send(there_, packet, file_));
  const local::Received received = receive();
  EXPECT_EQ(received.state, State::packet);
  EXPECT_EQ(received.size, packet.size());
  ASSERT_TRUE(received.file);
  EXPECT_EQ(::fcntl(received.file.fd(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(receive().state, State::nothing);
}

TEST_F(FdPassing, BringsAPacketWithoutAFile) {
  const std::array<std::byte, 8> packet{};
  ASSERT_TRUE(local::send(there_, packet, Descriptor()));
  const local::Received received = receive();
  EXPECT_EQ(received.state, State::packet);
  EXPECT_FALSE(received.file);
}

TEST_F(FdPassing, KeepsNothingOfWhatIsNotWanted) {
  struct Case {
    std::size_t bytes, files;
  };
  for (const auto& [bytes, files] : {Case{5, 2}, Case{5, 3}, Case{0, 1}, Case{0, 2}, Case{9, 1}}) {
    const std::ptrdiff_t before = open_descriptors();
    send(bytes, files);
    const local::Received received = receive();
    EXPECT_EQ(received.state, State::ended) << bytes << " bytes, " << files << " files";
    EXPECT_EQ(open_descriptors(), before) << bytes << " bytes, " << files << " files";
  }
}

TEST_F(FdPassing, EndsWithTheOtherEnd) {
  there_ = Descriptor();
  EXPECT_EQ(receive().state, State::ended);
}

}  // namespace
}  // namespace membrain
