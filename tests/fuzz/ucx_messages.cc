// Active messages as UCX hands them to its handler: the 16 bytes before each frame, which say whose
// it is, its turn and its kind. Peers have proved who they are then, but may say anything.
//
// Input: messages. How (see How), which connection, the header's length and the header, the length
// of the data, of which only whoever receives it would look at a byte.
#include <array>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/codec.h"
#include "tests/fuzz/target.h"
#include "transport/ucx/arrivals.h"

namespace membrain::fuzz {
namespace {

enum How : std::uint8_t { true_token = 1, rendezvous = 2, kept = 4, taken = 8, forgotten = 16 };
constexpr std::size_t kConnections = 3;

/// Connections that never had an endpoint, and what was noted of them.
class Hearer {
 public:
  explicit Hearer(UcxWorker& worker) {
    for (std::size_t i = 0; i < kConnections; ++i) {
      const std::uint64_t token = 0x1111'1111'1111'1111U * (i + 1);
      connections_[i] =
          std::make_unique<Connection>(worker, pool_, broken_, PeerId{i + 1}, i, token);
      arrivals_.expect(*connections_[i]);
    }
  }

  void hear(std::uint8_t how, std::size_t which, std::vector<std::byte> header, std::size_t size) {
    const Connection& of = *connections_[which % kConnections];
    if ((how & true_token) != 0 && header.size() >= sizeof of.own_token) {
      std::memcpy(header.data(), &of.own_token, sizeof of.own_token);
    }
    ucp_am_recv_param_t param{};
    if ((how & rendezvous) != 0) param.recv_attr |= UCP_AM_RECV_ATTR_FLAG_RNDV;
    if ((how & kept) != 0) param.recv_attr |= UCP_AM_RECV_ATTR_FLAG_DATA;
    const ucs_status_t status = Arrivals::on_message(&arrivals_, header.data(), header.size(),
                                                     size == 0 ? nullptr : &data_, size, &param);
    const bool holds = status == UCS_INPROGRESS;
    check(holds || status == UCS_OK, "UCX does not know this status");
    check(!holds || ((how & (rendezvous | kept)) != 0 && size > 0), "it keeps what is not to keep");
    if (holds) ++held_;
    if (holds || header.size() >= sizeof(MessageHead)) said_.push_back(std::move(header));
    if ((how & taken) != 0) take();
    if ((how & forgotten) != 0) forget(which % kConnections);
  }
  /// Nothing that UCX keeps is lost.
  void finish() {
    for (std::size_t i = 0; i < kConnections; ++i) forget(i);
    check(held_ == 0 && arrivals_.empty(), "what UCX keeps for us is never given back");
  }

 private:
  void take() {
    const Arrivals::Batch& batch = arrivals_.take();
    std::size_t said = 0;
    for (const Arrival& arrival : batch.messages) {
      const auto frame = batch.frame_of(arrival);
      MessageHead head{};
      // Some of what was said is of nobody: what was noted stands in the same order.
      const auto fits = [&](const std::vector<std::byte>& header) {
        std::memcpy(&head, header.data(), sizeof head);
        return head.token == arrival.connection->own_token && head.sequence == arrival.sequence &&
               head.kind == arrival.kind && header.size() == sizeof head + frame.size() &&
               std::equal(frame.begin(), frame.end(), header.begin() + sizeof head);
      };
      while (said < said_.size() && !fits(said_[said])) ++said;
      check(said++ < said_.size(), "a message that nobody sent");
      let_go(arrival.data);
    }
    said_.clear();
    check(arrivals_.empty(), "a batch is taken whole");
  }
  void forget(std::size_t which) {
    arrivals_.forget(*connections_[which], [this](const HeldBytes& data) { let_go(data); });
  }
  void let_go(const HeldBytes& data) {
    if (data.descriptor == nullptr) return;
    check(data.descriptor == &data_ && held_ > 0, "a descriptor that UCX did not give");
    --held_;
  }

  std::byte data_{};
  OperationPool pool_;
  std::vector<Connection*> broken_;
  std::array<std::unique_ptr<Connection>, kConnections> connections_;
  Arrivals arrivals_;
  std::vector<std::vector<std::byte>> said_;  ///< headers, since the last batch was taken
  std::size_t held_ = 0;
};

UcxWorker& worker() {
  static const std::unique_ptr<UcxWorker> one =
      UcxWorker::create(UcxContext::create().value()).value();
  return *one;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Hearer hearer(worker());
  Reader in(bytes_of(data, size));
  while (in.left() > 0) {
    std::uint8_t how = 0;
    std::uint8_t which = 0;
    std::uint8_t length = 0;
    in.get(how), in.get(which), in.get(length);
    std::vector<std::byte> header(std::min<std::size_t>(length, in.left()));
    in.raw(header.data(), header.size());
    std::uint32_t bytes = 0;
    in.get(bytes);
    hearer.hear(how, which, std::move(header), bytes);
  }
  hearer.finish();
  return 0;
}

}  // namespace membrain::fuzz
