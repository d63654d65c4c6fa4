// Redis' rows: values by GET, MGET and SET, names by EXISTS.
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "bench/page_memory.h"
#include "bench/peer_rows.h"

namespace membrain {
namespace {

constexpr std::size_t kExistsUnderWay = 2;  // fastest of 1 to 16

std::span<const std::byte> bytes_of(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Asks for a batch by `per_command` names a command; true if every value came whole. With `check`
/// every byte is compared as well.
bool get_batch(RedisClient& client, const Values& values, std::size_t first,
               std::size_t per_command, std::size_t under_way, bool check) {
  const std::size_t batch = values.batch();
  const std::size_t commands = (batch + per_command - 1) / per_command;
  std::vector<Key> keys;
  std::vector<std::string_view> words;
  return pipelined(
      client, commands, under_way,
      [&](std::size_t command) {
        keys.clear();
        words.assign(1, per_command == 1 ? "GET" : "MGET");
        const std::size_t end = std::min((command + 1) * per_command, batch);
        for (std::size_t i = command * per_command; i < end; ++i) {
          keys.emplace_back(hash_of_value(values.number(first + i)));
        }
        for (const Key& key : keys) words.push_back(key.text());
        client.append(words);
      },
      [&](std::size_t command, const RedisReply& reply) {
        std::size_t index = command * per_command;
        for (const std::string_view value : values_of(reply)) {
          if (value.size() != values.bytes) return false;
          if (check && !is_value(values.number(first + index), bytes_of(value))) return false;
          ++index;
        }
        return index == std::min((command + 1) * per_command, batch);
      });
}

void get(benchmark::State& state, Rivals& rivals, std::size_t bytes, std::size_t per_command,
         std::size_t under_way) {
  const Values values(bytes);
  const Outcome<RedisClient*> client = rivals.redis_with(values);
  if (!client) return state.SkipWithError(client.error().text.c_str());
  if (!get_batch(**client, values, 0, per_command, under_way, true)) {
    return state.SkipWithError("Redis answered other values");
  }
  std::size_t first = 0;
  for (auto _ : state) {
    first += values.batch();
    if (!get_batch(**client, values, first, per_command, under_way, false)) {
      return state.SkipWithError("a value did not come");
    }
  }
  count_bytes(state);
}

}  // namespace

void redis_get(benchmark::State& state, Rivals& rivals, std::size_t bytes) {
  get(state, rivals, bytes, 1, Values(bytes).under_way());
}

void redis_mget(benchmark::State& state, Rivals& rivals, std::size_t bytes) {
  get(state, rivals, bytes, std::min<std::size_t>(Values(bytes).under_way(), 4), 2);
}

void redis_set(benchmark::State& state, Rivals& rivals, std::size_t bytes) {
  const Values values(bytes);
  const Outcome<RedisClient*> client = rivals.redis_with(values);
  if (!client) return state.SkipWithError(client.error().text.c_str());
  PageMemory memory(kBatchBytes);
  values.fill(0, memory);
  for (auto _ : state) {
    // The same values again, for the same names: Redis reuses its memory.
    if (!set_values(**client, values, 0, values.batch(), memory)) {
      return state.SkipWithError("a SET was refused");
    }
  }
  count_bytes(state);
}

void redis_exists(benchmark::State& state, Rivals& rivals) {
  const Outcome<RedisClient*> client = rivals.redis_with_keys();
  if (!client) return state.SkipWithError(client.error().text.c_str());
  const std::vector<std::vector<BlockHash>> batches = present_batches();
  std::vector<std::string_view> words;
  for (auto _ : state) {
    const bool all = pipelined(
        **client, batches.size(), kExistsUnderWay,
        [&](std::size_t index) {
          words.assign(1, "EXISTS");
          for (const BlockHash& hash : batches[index]) {
            words.emplace_back(reinterpret_cast<const char*>(hash.bytes.data()), 16);
          }
          (*client)->append(words);
        },
        [](std::size_t, const RedisReply& reply) {
          return number_of(reply) == static_cast<std::int64_t>(kKeysAtOnce);
        });
    if (!all) return state.SkipWithError("a key was not there");
  }
  count_keys(state);
}

}  // namespace membrain
