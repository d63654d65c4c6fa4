// What Redis' own C client does in the comparison: pipelined commands, replies taken as values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

struct redisContext;
struct redisReply;

namespace membrain {

struct RedisReplyDeleter {
  void operator()(redisReply* reply) const noexcept;
};
using RedisReply = std::unique_ptr<redisReply, RedisReplyDeleter>;

/// One hiredis connection. A value counts as materialised when it lies, whole, in a reply object of
/// hiredis: no copy into a buffer of ours is asked of it.
///
/// Threads  One.
class RedisClient {
 public:
  /// Null with nobody there.
  static std::unique_ptr<RedisClient> connect(std::uint16_t port);

  /// Queues a command of these words; nothing is sent yet.
  void append(std::span<const std::string_view> words);
  /// Sends what is queued and returns the next reply; null when the connection is lost.
  RedisReply next();

 private:
  struct ContextDeleter {
    void operator()(redisContext* context) const noexcept;
  };
  explicit RedisClient(redisContext* context) noexcept : context_(context) {}

  std::unique_ptr<redisContext, ContextDeleter> context_;
  std::vector<const char*> words_;
  std::vector<std::size_t> sizes_;
};

[[nodiscard]] bool is_ok(const RedisReply& reply) noexcept;
/// The whole number that it is; -1 if it is none.
[[nodiscard]] std::int64_t number_of(const RedisReply& reply) noexcept;
/// The values of a GET (one) or an MGET (its list). Empty for anything else.
[[nodiscard]] std::vector<std::string_view> values_of(const RedisReply& reply);

}  // namespace membrain
