#include "tests/client/fake_cluster.h"

#include <algorithm>

#include "base/checksum.h"
#include "base/key.h"
#include "protocol/proofs.h"
#include "protocol/shard_messages.h"

namespace membrain::client_test {

std::vector<std::byte> content(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>((i * 31 + seed * 131 + (i >> 8) + 1) & 0xff);
  }
  return bytes;
}

BlockHash hash_of(unsigned number) {
  BlockHash hash;
  hash.size = 16;
  for (std::size_t i = 0; i < sizeof number; ++i) {
    hash.bytes[i] = static_cast<std::byte>(number >> (8 * i));
  }
  return hash;
}

Namespace test_namespace() {
  Namespace space;
  space.model = "a model";
  space.kv_dtype = "bfloat16";
  return space;
}

FetchItem whole(std::uint32_t block, std::span<std::byte> into, std::uint16_t part) {
  FetchItem item;
  item.block = block;
  item.part = part;
  item.into = {{into.data(), into.size()}};
  return item;
}

// ---- FakeProcess

FakeProcess::FakeProcess(SimNetwork& network, ManualClock& clock, const std::string& process)
    : loop_(clock), fabric_(network.make_fabric(loop_, process)) {
  fabric_->set_receiver(*this);
}

FakeProcess::~FakeProcess() {
  fabric_.reset();
  for (int i = 0; i < 100 && loop_.running_tasks() != 0; ++i) loop_.turn();
}

void FakeProcess::on_message(PeerId peer, std::span<const std::byte> bytes, Payload payload) {
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  ASSERT_TRUE(frame) << "the client sent what is no frame";
  last_peer = peer;
  peers.insert(peer);
  take(peer, *frame, std::move(payload));
}

void FakeProcess::on_lost(PeerId peer, const Error&) {
  peers.erase(peer);
}

void FakeProcess::close(PeerId peer) {
  peers.erase(peer);
  loop_.spawn(close_peer(peer));
}

Task<> FakeProcess::close_peer(PeerId peer) {
  Task<> closing = fabric_->close(peer);
  co_await closing;
}

Task<> FakeProcess::send(PeerId peer, std::vector<std::byte> frame,
                         std::vector<std::byte> payload) {
  Completion sent(loop_.ready());
  const Segment segment{payload.data(), payload.size(), nullptr};
  const std::span<const Segment> segments(&segment, 1);
  fabric_->send(peer, frame, segments, sent);
  [[maybe_unused]] const Result<> outcome = co_await sent;
}

// ---- FakeNode

FakeNode::FakeNode(SimNetwork& network, ManualClock& clock, std::uint32_t id)
    : FakeProcess(network, clock, "node" + std::to_string(id)),
      id_{id},
      name_("node" + std::to_string(id)) {
  EXPECT_TRUE(fabric().listen(name_));
}

Location FakeNode::keep(const BlockKey& key, std::uint16_t part, std::vector<std::byte> bytes) {
  Location at;
  at.node = id_;
  at.incarnation = Incarnation{1};
  at.slot = SlotId{static_cast<std::uint32_t>(slots_.size() + 1)};
  at.length = static_cast<std::uint32_t>(bytes.size());
  at.generation = Generation{next_generation_++};
  at.checksum = checksum(bytes);
  slots_[at.slot] = {key, part, at.generation, std::move(bytes)};
  return at;
}

wire::NodeEntry FakeNode::entry() const {
  wire::NodeEntry entry;
  entry.node = id_;
  entry.incarnation = Incarnation{1};
  entry.alive = alive;
  entry.address = name_;
  entry.host = host;
  entry.capacity_bytes = 1 << 30;
  entry.door = door;
  return entry;
}

void FakeNode::take(PeerId peer, const wire::Frame& frame, Payload payload) {
  const OpId op = frame.header.op;
  switch (frame.header.type) {
    case wire::Type::fetch:
      fetches.emplace_back(op, wire::read_body<wire::Fetch>(frame.body).value());
      return take_fetch(peer, op, fetches.back().second);
    case wire::Type::cancel_fetch:
      cancelled.push_back(wire::read_body<wire::CancelFetch>(frame.body).value().fetch);
      return;
    case wire::Type::suspect:
      suspects.push_back(wire::read_body<wire::Suspect>(frame.body).value());
      if (!drop_suspects) answer(peer, op, wire::SuspectNoted{});
      return;
    case wire::Type::store: {
      wire::Store store = wire::read_body<wire::Store>(frame.body).value();
      stores.push_back(store);
      loop().spawn(take_store(peer, op, std::move(store), std::move(payload)));
      return;
    }
    case wire::Type::open_window:
      ++windows_asked;
      if (window) return answer(peer, op, window());
      return answer(peer, op, wire::Refused{Errc::unavailable, "no window"});
    default:
      take_from_writer(peer, frame);
  }
}

void FakeNode::take_from_writer(PeerId peer, const wire::Frame& frame) {
  const OpId op = frame.header.op;
  if (frame.header.type == wire::Type::reserve_slots && lend) {
    answer(peer, op, lend(wire::read_body<wire::ReserveSlots>(frame.body).value()));
  } else if (frame.header.type == wire::Type::seal_slots && seal) {
    answer(peer, op, seal(wire::read_body<wire::SealSlots>(frame.body).value()));
  } else if (frame.header.type == wire::Type::give_back_slots) {
    const auto back = wire::read_body<wire::GiveBackSlots>(frame.body).value();
    given_back.insert(given_back.end(), back.items.begin(), back.items.end());
  } else {
    answer(peer, op, wire::Refused{Errc::invalid_argument, "no"});
  }
}

wire::ItemStatus FakeNode::look(const wire::FetchItem& item) const {
  if (mood == Mood::stale) return wire::ItemStatus::stale;
  if (mood == Mood::stop) return wire::ItemStatus::cancelled;
  const auto slot = slots_.find(item.slot);
  if (slot == slots_.end() || slot->second.key != item.key || slot->second.part != item.part) {
    return wire::ItemStatus::not_found;
  }
  if (slot->second.generation != item.generation) return wire::ItemStatus::stale;
  if (item.offset + item.length > slot->second.bytes.size()) return wire::ItemStatus::not_found;
  return wire::ItemStatus::ok;
}

void FakeNode::take_fetch(PeerId peer, OpId op, const wire::Fetch& fetch) {
  if (mood == Mood::hang) return;
  if (mood == Mood::vanish) return close(peer);
  if (mood == Mood::refuse) return answer(peer, op, wire::Refused{Errc::denied, "no"});
  for (std::size_t begin = 0; begin < fetch.items.size(); begin += items_per_data) {
    const std::size_t end = std::min(begin + items_per_data, fetch.items.size());
    std::vector<wire::DataItem> items;
    std::vector<std::byte> payload;
    for (std::size_t i = begin; i < end; ++i) {
      const wire::FetchItem& item = fetch.items[i];
      const wire::ItemStatus status = look(item);
      const bool ok = status == wire::ItemStatus::ok;
      items.push_back({item.tag, status, ok ? item.length : 0});
      if (!ok) continue;
      const auto at = slots_.at(item.slot).bytes.begin() + item.offset;
      payload.insert(payload.end(), at, at + item.length);
      if (mood == Mood::corrupt) payload.back() ^= std::byte{1};
    }
    send_data(peer, op, std::move(items), std::move(payload));
  }
}

void FakeNode::send_data(PeerId peer, OpId op, std::vector<wire::DataItem> items,
                         std::vector<std::byte> payload) {
  const wire::Data message{std::move(items)};
  if (payload.empty()) return answer(peer, op, message);
  answer(peer, op, message, std::move(payload));
}

Task<> FakeNode::take_store(PeerId peer, OpId op, wire::Store store, Payload payload) {
  Payload bulk = std::move(payload);
  if (mood == Mood::hang) {
    co_return;  // the payload is discarded; nobody answers
  }
  if (mood == Mood::vanish) {
    close(peer);
    co_return;
  }
  std::vector<std::byte> bytes(bulk.size());
  const Segment segment{bytes.data(), bytes.size(), nullptr};
  const std::span<const Segment> segments(&segment, 1);
  Completion received(loop().ready());
  fabric().receive(std::move(bulk), segments, received);
  const Result<> outcome = co_await received;
  if (!outcome) co_return;
  wire::Stored stored_message;
  std::size_t at = 0;
  for (const wire::StoreItem& item : store.items) {
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    if (store_status == wire::ItemStatus::ok) {
      stored[item.meta.key] = {begin, begin + item.length};
    }
    at += item.length;
    stored_message.statuses.push_back(store_status);
  }
  EXPECT_EQ(at, bytes.size());
  answer(peer, op, stored_message);
}

// ---- ClientTest

ClientTest::ClientTest(SimFaults faults, std::uint64_t seed)
    : network_(clock_, seed, faults),
      control_(network_.make_fabric(control_loop_, "client")),
      data_(network_.make_fabric(data_loop_, "client")) {
  shard_.nodes = {&node1_, &node2_};
  config_.server = "server:9201";
  config_.secret = kSecret;
}

ClientTest::~ClientTest() {
  stop();
  core_.reset();
  data_.reset();
  control_.reset();
}

void ClientTest::start() {
  core_ = std::make_unique<ClientCore>(*control_, *data_, config_, "here", std::move(opener_),
                                       std::move(devices_), std::move(windows_));
  const Result<> begun = await(control_loop_, core_->start());
  ASSERT_TRUE(begun) << begun.error().context;
  started_ = true;
}

namespace {

Task<bool> stop_core(ClientCore& core) {
  Task<> stopping = core.stop();
  co_await stopping;
  co_return true;
}

}  // namespace

void ClientTest::stop() {
  if (!std::exchange(started_, false)) return;
  EXPECT_TRUE(await(control_loop_, stop_core(*core_)));
}

void ClientTest::begin() {
  start();
  const Result<OpenedNamespace> opened =
      await(control_loop_, core_->open_namespace(test_namespace()));
  ASSERT_TRUE(opened) << opened.error().context;
  space_ = *opened;
}

BlockKey ClientTest::key_of(unsigned number) const {
  const KeyMaker maker(digest_of(test_namespace()), tenant_key(kSecret, config_.tenant));
  return maker.key(hash_of(number));
}

std::vector<std::byte> ClientTest::publish(unsigned number, std::size_t size,
                                           std::vector<FakeNode*> on, std::uint16_t part,
                                           unsigned seed) {
  std::vector<std::byte> bytes = content(size, number * 64 + part + seed);
  auto& parts = shard_.catalog[key_of(number)];
  if (parts.size() <= part) parts.resize(part + 1U);
  for (FakeNode* node : on) parts[part].push_back(node->keep(key_of(number), part, bytes));
  return bytes;
}

Result<Match> ClientTest::lookup(std::vector<unsigned> numbers, LookupOptions options) {
  std::vector<BlockHash> hashes;
  for (const unsigned number : numbers) hashes.push_back(hash_of(number));
  return await(control_loop_, core_->lookup(space_, std::move(hashes), options));
}

Result<TransferReport> ClientTest::fetch(const Match& match, std::vector<FetchItem> items,
                                         TransferOptions options) {
  return await(data_loop_,
               core_->fetch(match.state(), std::move(items), std::move(options), nullptr));
}

Result<TransferReport> ClientTest::store(std::vector<StoreItem> items, TransferOptions options) {
  return await(data_loop_, core_->store(space_, std::move(items), std::move(options), nullptr));
}

}  // namespace membrain::client_test
