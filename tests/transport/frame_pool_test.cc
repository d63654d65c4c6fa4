#include "transport/frame_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace membrain {
namespace {

/// Frames of every size class, of sizes around its border.
std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t step = 1; step <= FramePool::kLargestBytes / FramePool::kStepBytes; ++step) {
    all.push_back(step * FramePool::kStepBytes - 1);
    all.push_back(step * FramePool::kStepBytes);
  }
  all.push_back(FramePool::kLargestBytes + 1);
  all.push_back(1);
  return all;
}

TEST(FramePool, GivesEveryFrameMemoryOfItsOwn) {
  std::vector<std::pair<void*, std::size_t>> frames;
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t bytes : sizes()) {
      void* frame = FramePool::take(bytes);
      std::memset(frame, static_cast<int>(frames.size()), bytes);
      frames.emplace_back(frame, bytes);
    }
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const auto* bytes = static_cast<const unsigned char*>(frames[i].first);
      EXPECT_EQ(bytes[0], static_cast<unsigned char>(i));
      EXPECT_EQ(bytes[frames[i].second - 1], static_cast<unsigned char>(i));
    }
    for (const auto& [frame, bytes] : frames) FramePool::give(frame, bytes);
    frames.clear();
  }
}

TEST(FramePool, KeepsNoMoreThanItsBoundAndFreesTheRest) {
  constexpr std::size_t kBytes = 200;
  std::vector<void*> frames;
  for (std::size_t i = 0; i < 3 * FramePool::kKeptPerClass; ++i) {
    frames.push_back(FramePool::take(kBytes));
  }
  for (void* frame : frames) FramePool::give(frame, kBytes);  // a leak or a double free: see ASan
  frames.clear();
  for (std::size_t i = 0; i < 3 * FramePool::kKeptPerClass; ++i) {
    frames.push_back(FramePool::take(kBytes));
  }
  for (void* frame : frames) FramePool::give(frame, kBytes);
}

TEST(FramePool, TakesBackWhatAnotherThreadTook) {
  std::vector<void*> frames;
  std::thread taker([&frames] {
    for (int i = 0; i < 10; ++i) frames.push_back(FramePool::take(300));
  });
  taker.join();
  for (void* frame : frames) FramePool::give(frame, 300);
  std::thread giver([] {
    for (int i = 0; i < 10; ++i) FramePool::give(FramePool::take(500), 500);
  });
  giver.join();
}

}  // namespace
}  // namespace membrain
