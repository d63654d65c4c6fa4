#include "tools/dispatch.h"

#include <poll.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "tools/output.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::chrono::milliseconds kLookEvery(50);

TimePoint now_on_clock() {
  return SteadyClock().now();
}

ChildConfig child_for(const DispatchConfig& config, std::size_t index) {
  const EngineConfig& engine = config.engine;
  ChildConfig child;
  child.name = fmt::format("engine {}", index);
  child.secret = engine.secret;
  child.words = {"engine",
                 "--server",
                 engine.server,
                 "--label",
                 child.name,
                 "--space",
                 engine.space,
                 "--block-bytes",
                 std::to_string(engine.block_bytes),
                 "--timeout",
                 fmt::format("{}ms", engine.timeout.count()),
                 engine.verify ? "--verify" : "--no-verify",
                 "--log-level",
                 config.log_level};
  if (engine.one_sided_reads) child.words.emplace_back("--one-sided-reads");
  return child;
}

}  // namespace

Dispatch::Dispatch(const std::vector<TraceRequest>& requests, DispatchConfig config,
                   Signals& signals, LocalCluster* cluster, Observer observer)
    : requests_(requests),
      config_(std::move(config)),
      signals_(signals),
      cluster_(cluster),
      observer_(std::move(observer)) {
  totals_.instances = config_.instances;
}

Dispatch::~Dispatch() {
  finish();
}

Outcome<> Dispatch::start() {
  for (std::size_t index = 0; index < config_.instances; ++index) {
    Outcome<std::unique_ptr<Child>> process = Child::start(child_for(config_, index));
    if (!process) return tl::unexpected(process.error());
    Player player;
    player.process = std::move(*process);
    players_.push_back(std::move(player));
  }
  for (Player& player : players_) {
    const Outcome<std::string> line =
        player.process->await_line(now_on_clock() + std::chrono::seconds(30), signals_);
    if (!line) return tl::unexpected(line.error());
    if (*line != kEngineReady) return complain("{}: {}", player.process->name(), *line);
  }
  for (std::size_t index = 0; index < requests_.size(); ++index) {
    players_[index % players_.size()].waiting.push_back(index);
  }
  return {};
}

Outcome<> Dispatch::run() {
  playing_ = true;
  progress_.emplace(requests_.size());
  began_ = now_on_clock();
  Outcome<> outcome;
  while (over_ < requests_.size() && outcome) {
    const TimePoint now = now_on_clock();
    give_work(now);
    wait_for_something();
    listen_to_engines(now_on_clock());
    look_after(now_on_clock());
    show_progress(now_on_clock());
    const bool any_left = std::ranges::any_of(
        players_, [](const Player& player) { return player.process != nullptr; });
    if (signals_.stop_asked()) outcome = complain("interrupted");
    if (!any_left) outcome = complain("no engine is left");
  }
  progress_.reset();
  totals_.elapsed = now_on_clock() - began_;
  totals_.blocks_hit_across_instances = provenance_.hits_across();
  return outcome;
}

void Dispatch::finish() {
  for (const Player& player : players_) {
    if (player.process) player.process->ask_to_end();
  }
  for (Player& player : players_) {
    if (!player.process) continue;
    player.process->stop(config_.engine.timeout + std::chrono::seconds(5));
    const std::string how = player.process->ended().value_or("still running");
    if (how != "exit status 0")
      warn(fmt::format("{} ended badly ({})", player.process->name(), how));
    player.process.reset();
  }
}

bool Dispatch::due(std::size_t request, TimePoint now) const {
  if (config_.speed == 0) return true;
  const std::uint64_t first_ms = requests_.front().timestamp_ms;
  const double ms =
      static_cast<double>(requests_[request].timestamp_ms) - static_cast<double>(first_ms);
  return now - began_ >= std::chrono::nanoseconds(std::llround(ms * 1e6 / config_.speed));
}

void Dispatch::give_work(TimePoint now) {
  if (config_.in_order) {
    if (under_way_ != 0) return;
    Player* next = nullptr;
    for (Player& player : players_) {
      const bool earlier = !player.waiting.empty() &&
                           (next == nullptr || player.waiting.front() < next->waiting.front());
      if (player.process && earlier) next = &player;
    }
    if (next != nullptr && due(next->waiting.front(), now)) give(*next, now);
    return;
  }
  for (Player& player : players_) {
    while (player.process && !player.waiting.empty() && player.given.size() < kQueuedPerEngine &&
           due(player.waiting.front(), now)) {
      give(player, now);
    }
  }
}

void Dispatch::give(Player& player, TimePoint now) {
  const std::size_t index = player.waiting.front();
  player.waiting.pop_front();
  if (player.given.empty()) player.heard = now;
  player.given.push_back(index);
  ++under_way_;
  const TraceRequest& request = requests_[index];
  player.process->send_line(to_line(EngineTask{index, request.input_length, request.hash_ids}));
}

void Dispatch::wait_for_something() {
  std::vector<pollfd> fds{{signals_.fd(), POLLIN, 0}};
  for (const Player& player : players_) {
    if (!player.process) continue;
    const int events = POLLIN | (player.process->wants_to_write() ? POLLOUT : 0);
    fds.push_back({player.process->fd(), static_cast<short>(events), 0});
  }
  // Requests that fall due between two looks wait for at most kLookEvery: keep to the trace's own
  // milliseconds when it is played by its clock.
  const auto longest = config_.speed == 0 ? kLookEvery : std::chrono::milliseconds(1);
  static_cast<void>(::poll(fds.data(), fds.size(), static_cast<int>(longest.count())));
}

void Dispatch::listen_to_engines(TimePoint now) {
  for (std::size_t engine = 0; engine < players_.size(); ++engine) {
    Player& player = players_[engine];
    if (!player.process) continue;
    player.process->flush();
    const bool open = player.process->fill();
    while (std::optional<std::string> line = player.process->next_line()) {
      take_report(engine, *line, now);
    }
    if (!open) {
      player.process->stop(std::chrono::seconds(2));
      bury(engine, player.process->ended().value_or("it closed its output"));
    }
  }
}

void Dispatch::take_report(std::size_t engine, const std::string& line, TimePoint now) {
  Player& player = players_[engine];
  const Outcome<EngineReport> report = report_from_line(line);
  if (!report || player.given.empty() || report->index != player.given.front()) {
    warn(report ? fmt::format("{} reported a request that it was not given", engine)
                : report.error().text);
    return;
  }
  player.given.pop_front();
  player.heard = now;
  --under_way_;
  ++over_;
  const TraceRequest& request = requests_[report->index];
  totals_.add(*report, request.input_length);
  const std::span<const std::uint64_t> ids(request.hash_ids);
  const std::size_t hit = std::min<std::size_t>(report->prefix_blocks, ids.size());
  provenance_.hit(engine, ids.first(hit));
  if (report->blocks_stored != 0) provenance_.stored(engine, ids.subspan(hit));
  if (observer_) observer_(engine, request, *report);
}

void Dispatch::bury(std::size_t engine, const std::string& how) {
  Player& player = players_[engine];
  warn(fmt::format("{} ended unexpectedly ({}); {} of its requests are lost",
                   player.process->name(), how, player.given.size()));
  player.process.reset();
  ++totals_.engines_lost;
  under_way_ -= player.given.size();
  over_ += player.given.size();
  totals_.requests_lost += player.given.size();
  player.given.clear();
  const auto heir =
      std::ranges::find_if(players_, [](const Player& other) { return other.process != nullptr; });
  if (heir == players_.end()) return;
  heir->waiting.insert(heir->waiting.end(), player.waiting.begin(), player.waiting.end());
  std::ranges::sort(heir->waiting);
  player.waiting.clear();
}

void Dispatch::look_after(TimePoint now) {
  if (now < next_look_) return;
  next_look_ = now + kLookEvery;
  if (cluster_ != nullptr) {
    for (const std::string& death : cluster_->deaths()) warn(death);
  }
  // Every operation of an engine has a deadline: one that is silent for so long is stuck.
  const Duration longest = config_.engine.timeout * 6 + std::chrono::seconds(60);
  for (Player& player : players_) {
    if (player.process && !player.given.empty() && now - player.heard > longest) {
      warn(fmt::format("{} has not reported for {}: it is killed", player.process->name(),
                       format_duration(longest)));
      player.process->kill_now();
      player.heard = now;
    }
  }
}

void Dispatch::show_progress(TimePoint now) {
  if (!progress_ || !progress_->due(now)) return;
  progress_->show(now, over_, fmt::format("{:.0f} % hit", totals_.hit_ratio() * 100));
}

void Dispatch::warn(const std::string& text) {
  if (progress_) progress_->clear();
  complain_aloud(config_.command, text);
}

}  // namespace membrain
