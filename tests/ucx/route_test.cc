// What is read out of what UCX prints.
#include "transport/ucx/route.h"

#include <gtest/gtest.h>

namespace membrain::ucx_test {
namespace {

TEST(Route, NamesTheTransportsAndHowEachSizeGoes) {
  constexpr std::string_view kPrinted =
      "#\n# UCP endpoint \n#\n#               peer: <no debug data>\n"
      "#                 lane[0]:  4:posix/memory.0 md[3]          -> md[3]/posix/sysdev[255] am\n"
      "#                 lane[1]:  5:cma/memory.0 md[4]            -> md[4]/cma/sysdev[255] "
      "rma_bw\n"
      "#                 lane[2]:  4:posix/memory.0 md[3]          -> again\n"
      "#\n"
      "#                 am_send: 0..<egr/short>..93..<egr/bcopy>..8256..<rndv>..(inf)\n";
  EXPECT_EQ(route_in(kPrinted),
            "posix/memory, cma/memory; short to 93 B, bcopy to 8256 B, then rndv");
}

TEST(Route, IsEmptyForWhatItDoesNotKnow) {
  EXPECT_EQ(route_in(""), "");
  EXPECT_EQ(route_in("lane[\nam_send: <<<>>>\n"), "");
  EXPECT_EQ(route_in("# lane[0]:"), "");
  EXPECT_EQ(route_in("am_send: 0..<short"), "");
}

TEST(Route, ListsTheResourcesOfAContext) {
  constexpr std::string_view kPrinted =
      "#     component 0  :  self\n#\n"
      "#      resource 0  :  md 0  dev 0  flags -- self/memory0\n"
      "#      resource 1  :  md 1  dev 1  flags -- tcp/lo\n"
      "#      resource 2  :  md 1  dev 1  flags --\n";
  EXPECT_EQ(transports_in(kPrinted), (std::vector<std::string>{"self/memory0", "tcp/lo"}));
  EXPECT_TRUE(transports_in("nothing").empty());
}

TEST(Route, KnowsWhichPortsAContextUses) {
  const std::vector<std::string> transports = {"tcp/eth0", "rc_mlx5/mlx5_1:1", "ud_mlx5/mlx5_10:2"};
  EXPECT_TRUE(uses_port(transports, "mlx5_1", 1));
  EXPECT_TRUE(uses_port(transports, "mlx5_10", 0));
  EXPECT_FALSE(uses_port(transports, "mlx5_1", 2));
  EXPECT_FALSE(uses_port(transports, "mlx5_10", 1));
  EXPECT_FALSE(uses_port(transports, "mlx5_0", 0));
}

}  // namespace
}  // namespace membrain::ucx_test
