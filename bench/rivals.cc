#include "bench/rivals.h"

#include <string>
#include <utility>

#include "bench/filled_shard.h"
#include "bench/page_memory.h"

namespace membrain {
namespace {

constexpr std::uint64_t kValueBytes = std::uint64_t{1} << 30;  // three working sets, and room
constexpr std::uint64_t kStoreBytes = std::uint64_t{512} << 20;

}  // namespace

Outcome<RedisClient*> Rivals::redis() {
  if (redis_) return redis_.get();
  Outcome<std::unique_ptr<RedisProcess>> process = RedisProcess::start();
  if (!process) return tl::unexpected(process.error());
  redis_process_ = std::move(*process);
  redis_ = RedisClient::connect(redis_process_->port());
  if (!redis_) return complain("hiredis could not connect to the redis-server just started");
  return redis_.get();
}

bool set_values(RedisClient& client, const Values& values, std::size_t first, std::size_t count,
                std::span<const std::byte> memory) {
  return pipelined(
      client, count, values.under_way(),
      [&](std::size_t index) {
        const Key key(hash_of_value(values.number(first + index)));
        const auto* const begin = memory.data() + index * values.bytes;
        const std::string_view words[] = {
            "SET", key.text(), {reinterpret_cast<const char*>(begin), values.bytes}};
        client.append(words);
      },
      [](std::size_t, const RedisReply& reply) { return is_ok(reply); });
}

void Values::fill(std::size_t first, std::span<std::byte> memory) const noexcept {
  for (std::size_t index = 0; index * bytes < memory.size(); ++index) {
    fill_value(number(first + index), memory.subspan(index * bytes, bytes));
  }
}

Outcome<RedisClient*> Rivals::redis_with(const Values& values) {
  Outcome<RedisClient*> client = redis();
  if (!client || !in_redis_.insert(values.bytes).second) return client;
  PageMemory memory(kBatchBytes);
  for (std::size_t first = 0; first < values.count; first += values.batch()) {
    values.fill(first, memory);
    if (!set_values(**client, values, first, values.batch(), memory)) {
      return complain("redis-server refused a SET: is there memory enough?");
    }
  }
  return client;
}

Outcome<PeerCluster*> Rivals::membrain_with(const Values& values) {
  if (!membrain_) {
    Outcome<std::unique_ptr<PeerCluster>> cluster = PeerCluster::start(kValueBytes);
    if (!cluster) return tl::unexpected(cluster.error());
    membrain_ = std::move(*cluster);
  }
  if (!in_membrain_.insert(values.bytes).second) return membrain_.get();
  const std::unique_ptr<Client> client = membrain_->connect(Path::tcp);
  if (!membrain_->store(*client, values.number(0), values.count, values.bytes)) {
    return complain("the benchmark's values were not stored");
  }
  return membrain_.get();
}

Outcome<PeerCluster*> Rivals::membrain_for_stores() {
  if (!membrain_for_stores_) {
    Outcome<std::unique_ptr<PeerCluster>> cluster = PeerCluster::start(kStoreBytes);
    if (!cluster) return tl::unexpected(cluster.error());
    membrain_for_stores_ = std::move(*cluster);
  }
  return membrain_for_stores_.get();
}

Outcome<RedisClient*> Rivals::redis_with_keys() {
  Outcome<RedisClient*> client = redis();
  if (!client || !in_redis_.insert(0).second) return client;
  const bool set = pipelined(
      **client, kPresentKeys, 512,
      [&](std::size_t index) {
        const Key key(bench_hash(index));
        const std::string_view words[] = {"SET", key.text(), "x"};
        (*client)->append(words);
      },
      [](std::size_t, const RedisReply& reply) { return is_ok(reply); });
  if (!set) return complain("redis-server refused a SET");
  return client;
}

FilledServer& Rivals::membrain_with_keys() {
  if (!membrain_with_keys_) {
    membrain_with_keys_ =
        std::make_unique<FilledServer>(UcxContext::create({}).value(), kPresentKeys);
    membrain_with_keys_->fill();
  }
  return *membrain_with_keys_;
}

}  // namespace membrain
