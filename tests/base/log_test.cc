// What happens to lines that nobody reads.
#include "base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>

namespace membrain {
namespace {

/// stderr is a pipe of this test's, of four pages.
class LogPipe : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    reading_ = ends[0];
    ASSERT_GT(::fcntl(ends[1], F_SETPIPE_SZ, 4 * 4096), 0);
    ASSERT_EQ(::fcntl(reading_, F_SETFL, O_NONBLOCK), 0);
    usual_ = ::dup(STDERR_FILENO);
    ASSERT_GE(::dup2(ends[1], STDERR_FILENO), 0);
    ::close(ends[1]);
  }
  void TearDown() override {
    ::dup2(usual_, STDERR_FILENO);
    ::close(usual_);
    ::close(reading_);
  }

  std::string drain() {
    std::string all;
    std::array<char, 4096> some{};
    for (ssize_t got = 0; (got = ::read(reading_, some.data(), some.size())) > 0;) {
      all.append(some.data(), static_cast<std::size_t>(got));
    }
    return all;
  }

  static std::size_t count(const std::string& text, const std::string& word) {
    std::size_t found = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
      ++found;
    }
    return found;
  }

  int reading_ = -1;
  int usual_ = -1;
};

TEST_F(LogPipe, AReaderThatIsAsleepHoldsNobodyUp) {
  constexpr std::size_t kLines = 500;
  for (std::size_t i = 0; i < kLines; ++i) log(LogLevel::info, "line {:>100}", i);
  const std::string first = drain();
  const std::size_t kept = count(first, "line ");
  EXPECT_GT(kept, 10U);
  EXPECT_LT(kept, kLines / 2);
  log(LogLevel::warn, "later");
  const std::string then = drain();
  const std::string lost = std::to_string(kLines - kept) + " lines were lost";
  EXPECT_LT(then.find(lost), then.find("later")) << then;
  EXPECT_NE(then.find("later"), std::string::npos);
  log(LogLevel::warn, "at last");
  EXPECT_EQ(count(drain(), "lost"), 0U);
}

TEST_F(LogPipe, ALongLineIsWhole) {
  ASSERT_GT(::fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 16), 0);
  const std::string text(20'000, 'x');
  log(LogLevel::info, "{}.", text);
  EXPECT_NE(drain().find(text + ".\n"), std::string::npos);
}

}  // namespace
}  // namespace membrain
