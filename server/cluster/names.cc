#include "server/cluster/names.h"

#include <fmt/format.h>

#include <charconv>

namespace membrain {

namespace {
constexpr std::size_t kHexDigits = 16;
constexpr int kHex = 16;
}  // namespace

ClusterNames::ClusterNames(std::string_view cluster)
    : root_(fmt::format("membrain/{}/", cluster)) {}

std::string ClusterNames::server(std::string_view name) const {
  return servers() + std::string(name);
}

std::string ClusterNames::shard(ShardId shard) const {
  return fmt::format("{}shards/{}/", root_, shard.value);
}

std::string ClusterNames::leader(ShardId at) const {
  return shard(at) + "leader";
}

std::string ClusterNames::founded(ShardId at) const {
  return shard(at) + "founded";
}

std::string ClusterNames::wanted(ShardId at) const {
  return shard(at) + "wanted";
}

std::string ClusterNames::ready(ShardId at) const {
  return shard(at) + "ready";
}

std::string ClusterNames::split(ShardId at) const {
  return shard(at) + "split";
}

std::string ClusterNames::eras(ShardId at) const {
  return shard(at) + "eras/";
}

std::string ClusterNames::era(ShardId at, NamespaceId space) const {
  return fmt::format("{}{:016x}", eras(at), space.value);
}

std::optional<NamespaceId> ClusterNames::space_of(ShardId at, std::string_view key) const {
  const std::string before = eras(at);
  if (!key.starts_with(before) || key.size() != before.size() + kHexDigits) return std::nullopt;
  NamespaceId space;
  const char* const end = key.data() + key.size();
  const auto read = std::from_chars(key.data() + before.size(), end, space.value, kHex);
  if (read.ec != std::errc{} || read.ptr != end) return std::nullopt;
  return space;
}

}  // namespace membrain
