#include "tools/engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "tools/content.h"
#include "tools/trace.h"

namespace membrain {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} << 20;

/// What a destination holds before bytes land in it: no block's content.
constexpr int kPoison = 0xa5;

/// Eight bytes, little-endian: ids of the trace are names of whole prefixes already.
BlockHash hash_of(std::uint64_t hash_id) noexcept {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), &hash_id, sizeof hash_id);
  hash.size = sizeof hash_id;
  return hash;
}

Miss miss_for(Errc why) noexcept {
  switch (why) {
    case Errc::stale:
      return Miss::stale;
    case Errc::corrupt:
      return Miss::corrupt;
    case Errc::timed_out:
    case Errc::cancelled:
      return Miss::timeout;
    case Errc::not_found:
      return Miss::unknown;
    default:
      return Miss::peer_lost;
  }
}

void count_miss(EngineReport& report, Errc why, std::uint64_t blocks) {
  report.misses[static_cast<std::size_t>(miss_for(why))] += blocks;
}

void count_lanes(EngineReport& report, const TransferReport& moved) {
  for (const auto& [lane, bytes] : moved.lane_bytes) report.lanes[lane] += bytes;
}

/// Nanoseconds since it was made.
class Stopwatch {
 public:
  [[nodiscard]] std::uint64_t ns() const {
    return static_cast<std::uint64_t>((SteadyClock().now() - began_).count());
  }

 private:
  TimePoint began_ = SteadyClock().now();
};

Namespace namespace_of(const EngineConfig& config) {
  Namespace space;
  space.model = config.space;
  space.kv_dtype = "bytes";
  space.block_tokens = kTraceBlockTokens;
  space.layout = fmt::format("{} bytes", config.block_bytes);
  space.hash_algorithm = "trace";
  return space;
}

std::string why(const Error& error) {
  return error.context.empty() ? std::string(to_string(error.code))
                               : fmt::format("{} ({})", to_string(error.code), error.context);
}

}  // namespace

Outcome<std::unique_ptr<Engine>> Engine::open(const EngineConfig& config) {
  ClientConfig client_config;
  client_config.server = config.server;
  client_config.secret = config.secret;
  client_config.label = config.label;
  client_config.default_timeout = config.timeout;
  client_config.verify_checksums = config.verify;
  client_config.one_sided_reads = config.one_sided_reads;
  Result<std::unique_ptr<Client>> client = Client::open(std::move(client_config));
  if (!client) {
    return complain("no session with the server at {}: {}", config.server, why(client.error()));
  }
  const Result<OpenedNamespace> space = (*client)->open_namespace(namespace_of(config));
  if (!space) {
    return complain("the server at {} opened no namespace: {}", config.server, why(space.error()));
  }
  return std::unique_ptr<Engine>(new Engine(config, std::move(*client), *space));
}

Engine::Engine(EngineConfig config, std::unique_ptr<Client> client, OpenedNamespace space) noexcept
    : config_(std::move(config)),
      client_(std::move(client)),
      space_(space),
      blocks_at_once_(std::max<std::size_t>(1, kBufferBytes / config_.block_bytes)) {}

EngineReport Engine::play(const EngineTask& task) {
  EngineReport report;
  report.index = task.index;
  report.blocks_looked_up = task.hash_ids.size();
  if (task.hash_ids.empty()) return report;
  hashes_.clear();
  std::ranges::transform(task.hash_ids, std::back_inserter(hashes_), hash_of);
  here_.assign(task.hash_ids.size(), false);

  const Stopwatch lookup;
  const Result<Match> match = client_->lookup(space_, hashes_);
  if (match) {
    report.lookup_ns = lookup.ns();
    count_miss(report, Errc::not_found, task.hash_ids.size() - match->prefix_blocks());
    fetch_prefix(*match, task, report);
  } else {
    count_miss(report, match.error().code, task.hash_ids.size());
  }
  if (!match && match.error().code != Errc::timed_out) {
    report.not_stored[std::string(to_string(match.error().code))] += task.hash_ids.size();
  } else {
    store_rest(task, report);
  }
  return report;  // the match lives until here: what is stored hangs on pinned blocks
}

void Engine::fetch_prefix(const Match& match, const EngineTask& task, EngineReport& report) {
  const std::size_t found = match.prefix_blocks();
  for (std::size_t first = 0; first < found; first += blocks_at_once_) {
    fetch_some(match, task, first, std::min(blocks_at_once_, found - first), report);
  }
  report.prefix_blocks =
      static_cast<std::uint64_t>(std::ranges::find(here_, false) - here_.begin());
  report.tokens_saved = tokens_saved(report.prefix_blocks, task.input_length);
}

void Engine::fetch_some(const Match& match, const EngineTask& task, std::size_t first,
                        std::size_t count, EngineReport& report) {
  const std::span<std::byte> into = buffer(count);
  std::memset(into.data(), kPoison, into.size());
  std::vector<FetchItem> items(count);
  for (std::size_t place = 0; place < count; ++place) {
    items[place].block = static_cast<std::uint32_t>(first + place);
    items[place].length = static_cast<std::uint32_t>(config_.block_bytes);
    items[place].into = {{block_of(place).data(), block_of(place).size()}};
  }
  const Stopwatch fetch;
  const Result<TransferReport> fetched = client_->fetch(match, items);
  const std::uint64_t took = fetch.ns();
  if (!fetched) return count_miss(report, fetched.error().code, count);
  if (fetched->ok_count() != 0) report.fetch_ns += took;
  accept(task, first, *fetched, report);
}

void Engine::accept(const EngineTask& task, std::size_t first, const TransferReport& fetched,
                    EngineReport& report) {
  count_lanes(report, fetched);
  for (std::size_t place = 0; place < fetched.items.size(); ++place) {
    const ItemOutcome& item = fetched.items[place];
    if (!item.ok) {
      count_miss(report, item.why, 1);
      continue;
    }
    here_[first + place] = true;
    ++report.blocks_hit;
    report.bytes_fetched += config_.block_bytes;
    report.wrong_bytes += count_wrong_bytes(task.hash_ids[first + place], block_of(place));
  }
}

void Engine::store_rest(const EngineTask& task, EngineReport& report) {
  std::vector<std::size_t> missing;
  for (std::size_t block = 0; block < here_.size(); ++block) {
    if (!here_[block]) missing.push_back(block);
  }
  for (std::size_t first = 0; first < missing.size(); first += blocks_at_once_) {
    const std::size_t count = std::min(blocks_at_once_, missing.size() - first);
    store_some(task, std::span(missing).subspan(first, count), report);
  }
}

void Engine::store_some(const EngineTask& task, std::span<const std::size_t> blocks,
                        EngineReport& report) {
  static_cast<void>(buffer(blocks.size()));
  std::vector<StoreItem> items(blocks.size());
  for (std::size_t place = 0; place < blocks.size(); ++place) {
    const std::size_t block = blocks[place];
    fill_content(task.hash_ids[block], block_of(place));
    items[place].hash = hashes_[block];
    if (block > 0) items[place].parent = hashes_[block - 1];
    items[place].depth = static_cast<std::uint32_t>(block);
    items[place].from = {{block_of(place).data(), block_of(place).size()}};
  }
  const Stopwatch store;
  const Result<TransferReport> stored = client_->store(space_, items);
  const std::uint64_t took = store.ns();
  if (!stored) {
    report.not_stored[std::string(to_string(stored.error().code))] += blocks.size();
    return;
  }
  if (stored->ok_count() != 0) report.store_ns += took;
  count_lanes(report, *stored);
  for (const ItemOutcome& item : stored->items) {
    if (!item.ok) {
      ++report.not_stored[std::string(to_string(item.why))];
    } else if (item.duplicate) {
      ++report.blocks_duplicate;
    } else {
      ++report.blocks_stored;
      report.bytes_stored += config_.block_bytes;
    }
  }
}

std::span<std::byte> Engine::buffer(std::size_t blocks) {
  if (buffer_.size() < blocks * config_.block_bytes) buffer_.resize(blocks * config_.block_bytes);
  return std::span(buffer_).first(blocks * config_.block_bytes);
}

std::span<std::byte> Engine::block_of(std::size_t place) noexcept {
  return std::span(buffer_).subspan(place * config_.block_bytes, config_.block_bytes);
}

}  // namespace membrain
