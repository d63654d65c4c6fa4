#include "bench/store_engine.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <span>
#include <thread>
#include <utility>

namespace membrain {

namespace {

using Clock = std::chrono::steady_clock;
using What = RoundOrder::What;

constexpr std::size_t kWorkingSetBytes = std::size_t{32} << 20;
constexpr std::size_t kMostSets = 256;

BlockHash hash_of(std::uint64_t number) {
  return BlockHash::from(std::as_bytes(std::span(&number, 1))).value();
}

std::uint64_t word_of(std::uint64_t block, std::size_t at) noexcept {
  return (block + 1) * 0x9e3779b97f4a7c15u + at;
}

double percentile(std::vector<double>& sorted, double share) {
  const auto at = static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1));
  return sorted[at];
}

}  // namespace

std::size_t StoreEngine::sets(const StoreBenchConfig& config) noexcept {
  return std::clamp<std::size_t>(kWorkingSetBytes / (config.batch * config.block_bytes), 2,
                                 kMostSets);
}

StoreEngine::StoreEngine(const StoreBenchConfig& config, std::size_t index)
    : config_(config),
      index_(index),
      sets_(sets(config)),
      memory_(sets_ * config.batch * config.block_bytes) {}

std::byte* StoreEngine::memory_of(std::size_t set, std::size_t block) noexcept {
  return memory_.data() + (set * config_.batch + block) * config_.block_bytes;
}

/// Every word tells its block and its place in it.
void StoreEngine::fill(std::size_t set) {
  for (std::size_t block = 0; block < config_.batch; ++block) {
    std::byte* to = memory_of(set, block);
    for (std::size_t at = 0; at < config_.block_bytes; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = word_of(set * config_.batch + block, at);
      std::memcpy(to + at, &word, sizeof word);
    }
  }
}

bool StoreEngine::contents_are_right() const {
  for (std::size_t start = 0; start < memory_.size(); start += config_.block_bytes) {
    for (std::size_t at = 0; at < config_.block_bytes; at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, memory_.data() + start + at, sizeof word);
      if (word != word_of(start / config_.block_bytes, at)) return false;
    }
  }
  return true;
}

bool StoreEngine::prepare(const std::string& server) {
  ClientConfig config;
  config.server = server;
  config.mapped = config_.lane == "mapped";
  config.threads =
      config_.caller_drives ? ClientConfig::Threads::caller : ClientConfig::Threads::own;
  Result<std::unique_ptr<Client>> client = Client::open(config);
  if (!client) return false;
  client_ = std::move(*client);
  Namespace space;
  space.model = "engine " + std::to_string(index_);
  const Result<OpenedNamespace> kept = client_->open_namespace(space);
  space.model += ", passing";
  const Result<OpenedNamespace> passing = client_->open_namespace(space);
  if (!kept || !passing) return false;
  kept_ = *kept;
  passing_ = *passing;
  for (std::size_t set = 0; set < sets_; ++set) {
    fill(set);
    std::vector<BlockHash>& hashes = hashes_.emplace_back();
    std::vector<FetchItem>& fetches = fetches_.emplace_back();
    for (std::size_t block = 0; block < config_.batch; ++block) {
      hashes.push_back(hash_of(set * config_.batch + block));
      FetchItem& item = fetches.emplace_back();
      item.block = static_cast<std::uint32_t>(block);
      item.into = {{memory_of(set, block), config_.block_bytes}};
    }
  }
  if (!store_working_set()) return false;
  std::fill(memory_.begin(), memory_.end(), std::byte{0});
  for (std::size_t set = 0; set < sets_; ++set) {
    Result<Match> match = client_->lookup(kept_, hashes_[set]);
    if (!match || match->prefix_blocks() != config_.batch) return false;
    held_.push_back(std::move(*match));
    if (!fetch(set)) return false;
  }
  return contents_are_right();
}

bool StoreEngine::store_working_set() {
  stores_.resize(config_.batch);
  for (std::size_t set = 0; set < sets_; ++set) {
    for (std::size_t block = 0; block < config_.batch; ++block) {
      StoreItem& item = stores_[block];
      item.hash = hashes_[set][block];
      item.parent = block == 0 ? BlockHash{} : hashes_[set][block - 1];
      item.depth = static_cast<std::uint32_t>(block);
      item.from = {{memory_of(set, block), config_.block_bytes}};
    }
    const Result<TransferReport> report = client_->store(kept_, stores_);
    if (!report || report->ok_count() != config_.batch) return false;
  }
  return true;
}

bool StoreEngine::get(std::size_t set) {
  const Result<Match> match = client_->lookup(kept_, hashes_[set]);
  if (!match || match->prefix_blocks() != config_.batch) return false;
  const Result<TransferReport> report = client_->fetch(*match, fetches_[set]);
  return report && report->ok_count() == config_.batch;  // the match is released here
}

bool StoreEngine::fetch(std::size_t set) {
  const Result<TransferReport> report = client_->fetch(held_[set], fetches_[set]);
  return report && report->ok_count() == config_.batch;
}

bool StoreEngine::store_new() {
  const std::size_t set = next_ % sets_;
  for (std::size_t block = 0; block < config_.batch; ++block) {
    StoreItem& item = stores_[block];
    item.parent = block == 0 ? BlockHash{} : stores_[block - 1].hash;
    item.hash = hash_of(next_block_++);
    item.from = {{memory_of(set, block), config_.block_bytes}};
  }
  const Result<TransferReport> report = client_->store(passing_, stores_);
  if (!report) return false;
  return std::all_of(report->items.begin(), report->items.end(),
                     [](const ItemOutcome& item) { return item.ok && !item.duplicate; });
}

bool StoreEngine::clear() {
  const Result<OpenedNamespace> cleared = client_->clear(passing_);
  if (cleared) passing_ = *cleared;
  return cleared.has_value();
}

bool StoreEngine::once(What what) {
  const std::size_t set = ++next_ % sets_;
  switch (what) {
    case What::get:
      return get(set);
    case What::fetch:
      return fetch(set);
    case What::store:
      return store_new();
    case What::clear:
      return clear();
    case What::prepare:
      break;
  }
  return false;
}

RoundReport StoreEngine::repeat(What what, std::size_t count) {
  RoundReport report;
  std::vector<double> microseconds;
  microseconds.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Clock::time_point begin = Clock::now();
    if (!once(what)) return report;
    const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
    microseconds.push_back(took.count());
  }
  std::sort(microseconds.begin(), microseconds.end());
  report.ok = true;
  report.p50_us = percentile(microseconds, 0.50);
  report.p99_us = percentile(microseconds, 0.99);
  return report;
}

int StoreEngine::serve(OrderWire& orders) {
  RoundOrder order;
  while (orders.receive(order)) {
    RoundReport report;
    if (order.what == What::prepare) {
      report.ok = prepare(order.server.data());
    } else {
      report = repeat(order.what, order.count);
    }
    if (!orders.send(report)) break;
  }
  held_.clear();
  client_.reset();
  return 0;
}

}  // namespace membrain
