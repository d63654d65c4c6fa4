// What UCX's message handler has noted, when its connection goes.
#include "transport/ucx/arrivals.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "tests/ucx/lane.h"

namespace membrain::ucx_test {
namespace {

class ArrivalsTest : public testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<Connection> connection(std::uint64_t token) {
    return std::make_unique<Connection>(*worker_, pool_, broken_, PeerId{token}, token, token);
  }
  /// A message with a payload that is still with its sender, at `data`.
  void note(const Connection& of, std::byte& data) {
    const MessageHead head{of.own_token, 0, MessageKind::frame_with_payload};
    ucp_am_recv_param_t param{};
    param.recv_attr = UCP_AM_RECV_ATTR_FLAG_RNDV;
    EXPECT_EQ(Arrivals::on_message(&arrivals_, &head, sizeof head, &data, 1, &param),
              UCS_INPROGRESS);
  }

  std::unique_ptr<UcxWorker> worker_ = UcxWorker::create(make_context(tcp_lane(), "")).value();
  OperationPool pool_;
  std::vector<Connection*> broken_;
  Arrivals arrivals_;
};

TEST_F(ArrivalsTest, AreForgottenWithTheirConnection) {
  std::array<std::byte, 2> data{};
  auto gone = connection(1);
  const auto stays = connection(2);
  arrivals_.expect(*gone);
  arrivals_.expect(*stays);
  note(*gone, data[0]);
  note(*stays, data[1]);
  std::vector<void*> released;
  arrivals_.forget(*gone, [&](const HeldBytes& held) { released.push_back(held.descriptor); });
  gone.reset();
  EXPECT_EQ(released, std::vector<void*>{&data[0]});
  const Arrivals::Batch& left = arrivals_.take();
  ASSERT_EQ(left.messages.size(), 1u);
  EXPECT_EQ(left.messages.front().connection, stays.get());
}

}  // namespace
}  // namespace membrain::ucx_test
