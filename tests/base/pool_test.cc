#include "base/pool.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "base/ring.h"

namespace membrain {
namespace {

TEST(Pool, LendsTheSameObjectAgainWithWhatItHasGrownTo) {
  Pool<std::vector<int>> pool(4);
  const std::vector<int>* first = nullptr;
  {
    Pool<std::vector<int>>::Lease lease = pool.take();
    lease->assign(100, 7);
    first = &*lease;
  }
  Pool<std::vector<int>>::Lease lease = pool.take();
  EXPECT_EQ(&*lease, first);
  EXPECT_GE(lease->capacity(), 100U);
}

TEST(Pool, LendsDifferentObjectsToThoseWhoHoldOneAtTheSameTime) {
  Pool<int> pool(4);
  const Pool<int>::Lease one = pool.take();
  const Pool<int>::Lease two = pool.take();
  EXPECT_NE(&*one, &*two);
}

TEST(Pool, KeepsNoMoreThanItsBound) {
  Pool<std::shared_ptr<int>> pool(1);
  std::vector<std::weak_ptr<int>> seen;
  {
    std::vector<Pool<std::shared_ptr<int>>::Lease> leases;
    for (int i = 0; i < 3; ++i) {
      leases.push_back(pool.take());
      *leases.back() = std::make_shared<int>(i);
      seen.push_back(*leases.back());
    }
  }
  int kept = 0;
  for (const std::weak_ptr<int>& one : seen) kept += one.expired() ? 0 : 1;
  EXPECT_EQ(kept, 1);
}

TEST(Pool, AMovedLeaseGivesBackOnce) {
  Pool<int> pool(4);
  {
    Pool<int>::Lease first = pool.take();
    const Pool<int>::Lease second = std::move(first);
  }
  const Pool<int>::Lease one = pool.take();
  const Pool<int>::Lease two = pool.take();
  EXPECT_NE(&*one, &*two);
}

TEST(Ring, IsFirstInFirstOutWhileItGrowsAndWraps) {
  Ring<std::unique_ptr<int>> ring;
  EXPECT_TRUE(ring.empty());
  int in = 0;
  int out = 0;
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 1 + round % 7; ++i) ring.push_back(std::make_unique<int>(in++));
    for (int i = 0; i < 1 + round % 5 && !ring.empty(); ++i) {
      EXPECT_EQ(*ring.front(), out);
      EXPECT_EQ(*ring.pop_front(), out++);
    }
  }
  EXPECT_EQ(ring.size(), static_cast<std::size_t>(in - out));
  while (!ring.empty()) EXPECT_EQ(*ring.pop_front(), out++);
  EXPECT_EQ(in, out);
}

}  // namespace
}  // namespace membrain
