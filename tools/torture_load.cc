#include "tools/torture_load.h"

#include <poll.h>

#include <algorithm>
#include <utility>

namespace membrain {
namespace {

using Op = TortureRecord::Op;

constexpr int kLookEveryMs = 50;

TimePoint now_on_clock() {
  return SteadyClock().now();
}

HistoryTime history_time(TimePoint time) {
  return time.time_since_epoch().count();
}

}  // namespace

TortureLoad::TortureLoad(TortureLoadConfig config, HistoryBook& book, TortureReport& report)
    : config_(std::move(config)), book_(book), report_(report) {}

ChildConfig TortureLoad::child(std::size_t engine) const {
  ChildConfig child;
  child.name = fmt::format("engine-{}", engine);
  child.secret = config_.secret;
  child.errors_file = fmt::format("{}/{}.log", config_.folder, child.name);
  child.words = {"torture-engine", "--server", config_.servers, "--label", child.name, "--began",
                 std::to_string(history_time(config_.blocks.began)), "--block-bytes",
                 std::to_string(config_.blocks.block_bytes), "--timeout",
                 fmt::format("{}ms", config_.timeout.count()),
                 // Half of them ask nodes for everything, as engines of another host do.
                 engine % 2 == 0 ? "--mapped" : "--no-mapped"};
  return child;
}

Outcome<> TortureLoad::start() {
  engines_.resize(config_.engines);
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    engines_[i].process = std::make_unique<Resident>(child(i));
    if (const Outcome<> started = start(i); !started) return started;
  }
  return {};
}

Outcome<> TortureLoad::start(std::size_t engine) {
  Engine& one = engines_[engine];
  one.life = ++lives_;
  one.heard = now_on_clock();
  one.resting = false;
  ChildConfig& config = one.process->config();
  config.words = child(engine).words;
  config.words.insert(config.words.end(), {"--seed", std::to_string(config_.seed * 1000 + lives_)});
  return one.process->start();
}

void TortureLoad::kill(std::size_t engine, TimePoint now) {
  bury(engines_[engine], now);
}

/// Kills it, and takes its last words: it did what it has told, and may have done what it began.
void TortureLoad::bury(Engine& engine, TimePoint now) {
  if (Child* const process = engine.process->process()) {
    process->kill_now();
    pollfd fd{-1, 0, 0};
    for (int tries = 0; tries < 1000 && !process->ended(); ++tries) ::poll(&fd, 1, 5);
    take_lines(engine, now);
  }
  engine.process->kill();
  book_.released_all(engine.life, history_time(now));
  if (std::optional<TortureRecord> begun = std::exchange(engine.begun, std::nullopt)) {
    begun->ret = history_time(now_on_clock());
    note_history({begun->call, begun->ret, engine.life, begun->space, begun->era}, *begun);
  }
}

void TortureLoad::stop(std::size_t engine, TimePoint now) {
  Engine& one = engines_[engine];
  // It may be silent for longer than its session lives.
  book_.released_all(one.life, history_time(now));
  one.stopped_from = now;
  one.stopped_to = TimePoint::max();
  one.process->stop();
}

void TortureLoad::go_on(std::size_t engine, TimePoint now) {
  Engine& one = engines_[engine];
  one.stopped_to = one.heard = now;
  one.process->go_on();
}

void TortureLoad::listen(Signals& signals, TimePoint until, const std::function<bool()>& enough) {
  while (!signals.stop_asked()) {
    std::vector<pollfd> fds{{signals.fd(), POLLIN, 0}};
    for (Engine& engine : engines_) {
      Child* const process = engine.process->process();
      if (process != nullptr && process->fd() >= 0) fds.push_back({process->fd(), POLLIN, 0});
    }
    static_cast<void>(::poll(fds.data(), fds.size(), kLookEveryMs));
    const TimePoint now = now_on_clock();
    for (Engine& engine : engines_) {
      take_lines(engine, now);
      look_after(engine, now);
    }
    if (now >= until || enough()) return;
  }
}

void TortureLoad::take_lines(Engine& engine, TimePoint now) {
  Child* const process = engine.process->process();
  if (process == nullptr) return;
  process->fill();
  while (const std::optional<std::string> line = process->next_line()) {
    engine.heard = now;
    const Outcome<TortureRecord> record = torture_record_from_line(*line);
    if (record) {
      note(engine, *record);
    } else {
      ++report_.crashes;
      report_.told.push_back(fmt::format("{}: {}", engine.process->name(), record.error().text));
    }
  }
}

/// Its end, or a silence that no operation explains.
void TortureLoad::look_after(Engine& engine, TimePoint now) {
  if (const auto how = engine.process->died()) {
    ++report_.crashes;
    report_.told.push_back(fmt::format("{} ended by itself: {}", engine.process->name(), *how));
    bury(engine, now);
  }
  const bool expected = engine.process->running() && !engine.resting;
  if (!expected || now - engine.heard < config_.timeout + kDrain + kSilence) return;
  ++report_.hangs;
  report_.told.push_back(
      fmt::format("{} is silent: an operation does not end", engine.process->name()));
  bury(engine, now);
}

void TortureLoad::note(Engine& engine, const TortureRecord& record) {
  if (record.op == Op::resting) {
    engine.resting = true;
    return;
  }
  if (record.outcome == TortureRecord::kBegun) {
    engine.begun = record;
    return;
  }
  if (engine.begun && engine.begun->op == record.op) engine.begun.reset();
  ++report_.operations[std::string(to_string(record.op))];
  if (!record.ok()) ++report_.failed;
  report_.bytes += record.bytes;
  report_.wrong_bytes += record.wrong_bytes;
  if (record.wrong_bytes > 0) {
    report_.told.push_back(fmt::format("{} was given {} wrong bytes of namespace {}",
                                       engine.process->name(), record.wrong_bytes, record.space));
  }
  report_.corrupt_caught +=
      static_cast<std::uint64_t>(std::ranges::count(record.items, TortureRecord::corrupt));
  look_for_hang(engine, record);
  TortureRecord noted = record;
  if (was_stopped(engine, record)) noted.pinned = 0;  // its session may be over by now
  note_history({record.call, record.ret, engine.life, record.space, record.era}, noted);
}

/// It was stopped while the operation was under way.
bool TortureLoad::was_stopped(const Engine& engine, const TortureRecord& record) {
  return history_time(engine.stopped_to) >= record.call &&
         history_time(engine.stopped_from) <= record.ret;
}

void TortureLoad::look_for_hang(const Engine& engine, const TortureRecord& record) {
  const std::chrono::nanoseconds took(record.ret - record.call);
  // To open a client is to bring UCX up as well, which has no deadline.
  const bool opens = record.op == Op::connected;
  const std::chrono::nanoseconds more = opens ? std::chrono::nanoseconds(kSilence) : kSlack;
  if (was_stopped(engine, record)) return;
  const auto late = std::chrono::floor<std::chrono::milliseconds>(took - config_.timeout);
  if (!opens) report_.latest = std::max(report_.latest, late);
  if (!opens && late > kDrain) ++report_.late;
  if (took <= config_.timeout + kDrain + more) return;
  ++report_.hangs;
  report_.told.push_back(fmt::format(
      "{}: a {} took {} ms, its deadline is {} ms", engine.process->name(), to_string(record.op),
      std::chrono::duration_cast<std::chrono::milliseconds>(took).count(),
      config_.timeout.count()));
}

void TortureLoad::note_history(const HistoryCall& by, const TortureRecord& record) {
  switch (record.op) {
    case Op::open:
      if (record.ok()) book_.opened(by);
      return;
    case Op::lookup:
      return note_lookup(by, record);
    case Op::fetch:
      for (std::size_t i = 0; i < record.blocks.size(); ++i) {
        if (record.items[i] == TortureRecord::lost) book_.lost(by, record.match, record.blocks[i]);
      }
      return;
    case Op::store:
      for (std::size_t i = 0; i < record.blocks.size(); ++i) {
        const char item = record.items[i];
        const auto outcome = item == TortureRecord::good        ? HistoryBook::Stored::stored
                             : item == TortureRecord::duplicate ? HistoryBook::Stored::duplicate
                                                                : HistoryBook::Stored::unknown;
        book_.stored(by, record.blocks[i], outcome);
      }
      return;
    case Op::release:
      return book_.released(by.client, record.match, record.call);
    case Op::clear:
      if (record.ok()) ++report_.faults["namespace cleared"];
      return book_.cleared(by, record.ok() ? std::optional(record.next_era) : std::nullopt);
    case Op::connected:
    case Op::reserve:
    case Op::resting:
      return;
  }
}

void TortureLoad::note_lookup(const HistoryCall& by, const TortureRecord& record) {
  if (!record.ok()) {
    if (record.outcome == to_string(Errc::stale)) book_.told_stale(by);
    return;
  }
  std::vector<std::uint64_t> blocks;  // those that were answered for; what is pinned comes first
  std::vector<bool> found;
  for (std::size_t i = 0; i < record.items.size() && i < record.blocks.size(); ++i) {
    if (record.items[i] == TortureRecord::other) continue;
    blocks.push_back(record.blocks[i]);
    found.push_back(record.items[i] == TortureRecord::good);
    ++(found.back() ? report_.blocks_found : report_.blocks_missed);
  }
  book_.looked_up(by, blocks, found, record.pinned, record.match);
}

bool TortureLoad::rest(Signals& signals, TimePoint deadline) {
  for (Engine& engine : engines_) {
    if (Child* const process = engine.process->process()) process->send_line(kTortureRest);
  }
  const auto all = [this] {
    return std::ranges::all_of(engines_, [](const Engine& engine) {
      return engine.resting || !engine.process->running();
    });
  };
  listen(signals, deadline, all);
  return all();
}

void TortureLoad::finish() {
  for (Engine& engine : engines_) engine.process->ask_to_end();
  for (Engine& engine : engines_) engine.process->finish();
}

}  // namespace membrain
