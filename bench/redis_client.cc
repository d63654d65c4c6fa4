#include "bench/redis_client.h"

#include <hiredis/hiredis.h>
#include <malloc.h>

namespace membrain {

void RedisReplyDeleter::operator()(redisReply* reply) const noexcept {
  ::freeReplyObject(reply);
}

void RedisClient::ContextDeleter::operator()(redisContext* context) const noexcept {
  ::redisFree(context);
}

std::unique_ptr<RedisClient> RedisClient::connect(std::uint16_t port) {
  // Replies of megabytes come from the heap again and again, instead of from fresh, unmapped pages;
  // and the reader keeps its buffer. Both make Redis' side faster.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  std::unique_ptr<RedisClient> client(new RedisClient(::redisConnect("127.0.0.1", port)));
  if (!client->context_ || client->context_->err != 0) return nullptr;
  client->context_->reader->maxbuf = 0;
  return client;
}

void RedisClient::append(std::span<const std::string_view> words) {
  words_.clear();
  sizes_.clear();
  for (const std::string_view word : words) {
    words_.push_back(word.data());
    sizes_.push_back(word.size());
  }
  ::redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()), words_.data(),
                           sizes_.data());
}

RedisReply RedisClient::next() {
  void* reply = nullptr;
  if (::redisGetReply(context_.get(), &reply) != REDIS_OK) return nullptr;
  return RedisReply(static_cast<redisReply*>(reply));
}

bool is_ok(const RedisReply& reply) noexcept {
  return reply && reply->type == REDIS_REPLY_STATUS &&
         std::string_view(reply->str, reply->len) == "OK";
}

std::int64_t number_of(const RedisReply& reply) noexcept {
  return reply && reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
}

std::vector<std::string_view> values_of(const RedisReply& reply) {
  std::vector<std::string_view> values;
  if (!reply) return values;
  if (reply->type == REDIS_REPLY_STRING) values.emplace_back(reply->str, reply->len);
  if (reply->type != REDIS_REPLY_ARRAY) return values;
  for (std::size_t index = 0; index < reply->elements; ++index) {
    const redisReply* const element = reply->element[index];
    if (element->type == REDIS_REPLY_STRING) values.emplace_back(element->str, element->len);
  }
  return values;
}

}  // namespace membrain
