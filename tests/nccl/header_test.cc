// What transport/nccl/api.h declares is what NCCL's own header declares, where that is there; and
// its library, which answers a little without a GPU too.
#include <gtest/gtest.h>
#include <nccl.h>

#include <cstddef>
#include <filesystem>

#include "tests/cuda/same_call.h"
#include "transport/nccl/library.h"

namespace membrain::nccl {
namespace {

using cuda_test::kSameCall;

#define MEMBRAIN_SAME(ours, theirs) \
  static_assert(kSameCall<decltype(Api::ours), decltype(&theirs)>, #theirs)
MEMBRAIN_SAME(version, ncclGetVersion);
MEMBRAIN_SAME(unique_id, ncclGetUniqueId);
MEMBRAIN_SAME(init_rank, ncclCommInitRankConfig);
MEMBRAIN_SAME(async_error, ncclCommGetAsyncError);
MEMBRAIN_SAME(broadcast, ncclBroadcast);
MEMBRAIN_SAME(abort, ncclCommAbort);
MEMBRAIN_SAME(error_text, ncclGetErrorString);
MEMBRAIN_SAME(last_error, ncclGetLastError);
#undef MEMBRAIN_SAME

// A configuration of 2.20 is how every later one begins.
#define MEMBRAIN_AT(ours, theirs) \
  static_assert(offsetof(Config, ours) == offsetof(ncclConfig_t, theirs), #theirs)
MEMBRAIN_AT(size, size);
MEMBRAIN_AT(magic, magic);
MEMBRAIN_AT(version, version);
MEMBRAIN_AT(blocking, blocking);
MEMBRAIN_AT(cga_cluster_size, cgaClusterSize);
MEMBRAIN_AT(min_ctas, minCTAs);
MEMBRAIN_AT(max_ctas, maxCTAs);
MEMBRAIN_AT(net_name, netName);
MEMBRAIN_AT(split_share, splitShare);
#undef MEMBRAIN_AT

TEST(NcclHeader, NumbersAreNvidias) {
  EXPECT_EQ(kSuccess, ncclSuccess);
  EXPECT_EQ(kInvalidArgument, ncclInvalidArgument);
  EXPECT_EQ(kInvalidUsage, ncclInvalidUsage);
  EXPECT_EQ(kInProgress, ncclInProgress);
  EXPECT_EQ(kUint8, ncclUint8);
  EXPECT_EQ(UniqueId::kBytes, static_cast<std::size_t>(NCCL_UNIQUE_ID_BYTES));
  const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  const Config ours;
  EXPECT_EQ(ours.magic, theirs.magic);
  EXPECT_EQ(ours.blocking, theirs.blocking);
  EXPECT_EQ(ours.net_name, theirs.netName);
  EXPECT_EQ(ours.version, static_cast<std::uint32_t>(NCCL_VERSION(2, 20, 5)));
  EXPECT_EQ(kOldestVersion, NCCL_VERSION(2, 20, 0));
}

TEST(NcclHeader, TheLibraryAnswers) {
  if (!std::filesystem::exists(NCCL_LIBRARY)) GTEST_SKIP() << "the header is here alone";
  const auto library = Library::load(NCCL_LIBRARY);
  ASSERT_TRUE(library) << library.error().context;
  EXPECT_EQ((*library)->version(), NCCL_VERSION_CODE);
  EXPECT_FALSE((*library)->text(kInvalidUsage).empty());
}

}  // namespace
}  // namespace membrain::nccl
