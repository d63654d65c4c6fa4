#include "tools/torture.h"

#include <algorithm>
#include <utility>

#include "tools/output.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::chrono::milliseconds kLookEvery(500);
constexpr std::chrono::milliseconds kShortestCalm(1000);
constexpr std::chrono::milliseconds kLongestCalm(4000);
/// Now and then a calm in which every session, node and lease has long been what it is: there a
/// block that is lost has no excuse.
constexpr std::uint64_t kFaultsToLongCalm = 5;
constexpr std::chrono::milliseconds kLongCalm(20'000);
constexpr std::chrono::milliseconds kLongCalmMore(10'000);
/// Sessions of the dead are over, slots are free, connections closed.
constexpr std::chrono::seconds kQuiet(40);
/// UCX opens a timer when it first doubts a peer, and keeps it; and a connection to a server that
/// was killed is there until somebody uses it. Each engine that came and went would leave two.
constexpr std::size_t kSpareDescriptors = 2;
/// Nodes that have copied blocks from each other stay connected.
constexpr std::size_t kDescriptorsOfNeighbour = 2;
/// By then all has been told: of a fault, and of what the watch finds out about the time before.
constexpr std::chrono::seconds kSettled = Torture::kPatience + std::chrono::seconds(30);

TimePoint now_on_clock() {
  return SteadyClock().now();
}

}  // namespace

Torture::Torture(const TortureOptions& options, Signals& signals, TortureReport& report)
    : options_(options),
      signals_(signals),
      report_(report),
      watch_(options.house.nodes),
      random_(options.seed) {
  report_.seed = options.seed;
  blocks_.block_bytes = options.block_bytes;
}

Torture::~Torture() {
  progress_.reset();
  if (load_) load_->finish();
}

Outcome<> Torture::run() {
  if (const Outcome<> started = start(); !started) return started;
  began_ = now_on_clock();
  progress_ = std::make_unique<Progress>(
      static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::seconds>(options_.length).count()),
      ProgressUnit::seconds);
  const Outcome<> hurt_enough = hurt(began_ + options_.length);
  report_.elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(now_on_clock() - began_);
  progress_.reset();
  if (!hurt_enough) return hurt_enough;
  if (signals_.stop_asked()) return complain("interrupted");
  const Outcome<> quiet = quiesce();
  judge();
  if (!report_.sound()) report_.told.push_back(logs());
  return quiet;
}

std::string Torture::logs() const {
  house_->keep_folder();
  return "logs are in " + house_->folder();
}

Outcome<> Torture::start() {
  Outcome<std::unique_ptr<TortureHouse>> house = TortureHouse::start(options_.house);
  if (!house) return tl::unexpected(house.error());
  house_ = std::move(*house);
  blocks_.began = now_on_clock();
  TortureLoadConfig config;
  config.engines = options_.engines;
  config.servers = house_->servers_list();
  config.secret = house_->secret();
  config.folder = house_->folder();
  config.blocks = blocks_;
  config.seed = options_.seed;
  config.timeout = options_.timeout;
  load_ = std::make_unique<TortureLoad>(config, book_, report_);
  faults_ = std::make_unique<TortureFaults>(*house_, *load_, book_, watch_, report_, blocks_,
                                            options_.seed);
  if (!become_well()) {
    if (signals_.stop_asked()) return complain("interrupted");
    return complain("the cluster did not come up within {} s; {}", kPatience.count(), logs());
  }
  note_descriptors();
  return load_->start();
}

void Torture::pass(TimePoint until, const std::function<bool()>& enough) {
  load_->listen(signals_, until, [&] {
    const TimePoint now = now_on_clock();
    if (now >= next_look_) look(now);
    show(now);
    return died_ > 0 || enough();
  });
}

void Torture::pass(std::chrono::milliseconds time) {
  pass(now_on_clock() + time, [] { return false; });
}

void Torture::look(TimePoint now) {
  next_look_ = now + kLookEvery;
  for (const std::string& death : house_->deaths()) {
    ++report_.crashes;
    ++died_;
    report_.told.push_back("ended by itself: " + death);
  }
  for (const Disturbance& found : watch_.see(now, house_->leader())) book_.disturbed(found);
}

/// At once what is wrong, and now and then how far the run is.
void Torture::show(TimePoint now) {
  for (; told_ < report_.told.size(); ++told_) {
    if (progress_) progress_->clear();
    complain_aloud("torture", report_.told[told_]);
  }
  if (!progress_ || !progress_->due(now)) return;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - began_).count();
  std::uint64_t faults = 0;
  for (const auto& [kind, times] : report_.faults) faults += times;
  const std::uint64_t operations = report_.operation_count();
  const std::uint64_t rate =
      operations / static_cast<std::uint64_t>(std::max<std::int64_t>(1, seconds));
  const std::int64_t length = std::chrono::ceil<std::chrono::seconds>(options_.length).count();
  progress_->show(now, static_cast<std::uint64_t>(std::min<std::int64_t>(seconds, length)),
                  fmt::format("{} operations/s, {} faults{}", format_count(rate), faults,
                              report_.sound() ? "" : ", something is wrong"));
}

bool Torture::become_well() {
  bool well = false;
  pass(now_on_clock() + kPatience, [&] { return well = house_->well(); });
  return well;
}

std::chrono::milliseconds Torture::draw_calm() {
  const bool rest = calms_ > 0 && calms_ % kFaultsToLongCalm == 0;
  ++calms_;
  const std::chrono::milliseconds least = rest ? kLongCalm : kShortestCalm;
  const std::chrono::milliseconds more = rest ? kLongCalmMore : kLongestCalm - kShortestCalm;
  return least + std::chrono::milliseconds(random_() % static_cast<std::uint64_t>(more.count()));
}

/// Faults, one after the other, with some quiet after each.
Outcome<> Torture::hurt(TimePoint end) {
  while (now_on_clock() < end && !signals_.stop_asked() && died_ == 0) {
    pass(std::min(end, now_on_clock() + draw_calm()), [] { return false; });
    if (now_on_clock() >= end) break;
    const std::chrono::milliseconds lasts = faults_->begin();
    if (lasts.count() > 0) pass(lasts);
    if (const Outcome<> healed = faults_->heal(); !healed) return healed;
    if (!become_well() && !signals_.stop_asked() && died_ == 0) {
      ++report_.hangs;
      report_.told.push_back(fmt::format("the cluster was not well within {} s after a fault; {}",
                                         kPatience.count(), logs()));
      return complain("the cluster did not recover; {}", logs());
    }
    faults_->over(now_on_clock());
    judge_old(now_on_clock());
  }
  return {};
}

// ---- when the load has ended

std::uint64_t Torture::counter(const std::string& name) const {
  const std::optional<LeaderStatus> status = house_->leader();
  return status ? status->counter(name) : UINT64_MAX;
}

void Torture::leak(std::uint64_t count, std::string text) {
  report_.leaks += count;
  report_.told.push_back("leaked: " + std::move(text));
}

void Torture::note_descriptors() {
  for (const auto& server : house_->servers()) {
    server_descriptors_ = std::max(server_descriptors_, server->descriptors());
  }
  for (const auto& node : house_->nodes()) {
    node_descriptors_ = std::max(node_descriptors_, node->descriptors());
  }
}

Outcome<> Torture::quiesce() {
  if (!load_->rest(signals_, now_on_clock() + kPatience) && !signals_.stop_asked()) {
    ++report_.hangs;
    report_.told.emplace_back("an engine did not come to rest");
  }
  check_pins();
  load_->finish();
  check_sessions();
  check_slots();
  check_descriptors();
  check_shared_memory();
  if (signals_.stop_asked()) return complain("interrupted");
  return {};
}

/// Engines are there, and hold nothing.
void Torture::check_pins() {
  pass(now_on_clock() + kQuiet, [this] { return counter("pins") == 0; });
  const std::uint64_t pins = counter("pins");
  if (pins != 0) leak(pins, fmt::format("{} pins that no engine holds", pins));
}

void Torture::check_sessions() {
  pass(now_on_clock() + kQuiet, [this] { return counter("sessions") == 0; });
  const std::uint64_t sessions = counter("sessions");
  if (sessions != 0) leak(sessions, fmt::format("{} sessions of engines that are gone", sessions));
}

SlotStates Torture::slots() const {
  SlotStates sum;
  for (std::size_t node = 0; node < house_->nodes().size(); ++node) {
    const Outcome<TortureArena> arena = house_->arena(node);
    if (!arena) continue;
    const SlotStates states = arena->states();
    sum.sealed += states.sealed, sum.writing += states.writing, sum.lent += states.lent;
  }
  return sum;
}

/// What is in use in arenas is what the server knows.
void Torture::check_slots() {
  SlotStates states;
  std::uint64_t replicas = 0;
  pass(now_on_clock() + kQuiet, [&] {
    states = slots();
    replicas = counter("replicas");
    return states.in_use() == replicas && states.sealed == replicas;
  });
  if (states.in_use() == replicas && states.sealed == replicas) return;
  const std::uint64_t more = std::max(states.in_use(), replicas);
  leak(std::max<std::uint64_t>(1, more - std::min(states.sealed, replicas)),
       fmt::format("slots: {} sealed, {} being written, {} lent, and {} replicas in the catalog",
                   states.sealed, states.writing, states.lent, replicas));
}

void Torture::check_descriptors() {
  const auto check = [this](const std::vector<std::unique_ptr<Resident>>& group, std::size_t before,
                            std::size_t spare) {
    for (const auto& one : group) {
      std::size_t now = 0;
      pass(now_on_clock() + kQuiet, [&] {
        now = one->descriptors();
        return now <= before + spare;
      });
      if (now <= before + spare) continue;
      leak(now - before, fmt::format("descriptors: {} has {}, and had {} before there were engines",
                                     one->name(), now, before));
    }
  };
  const std::size_t neighbours = house_->nodes().size() - 1;
  check(house_->servers(), server_descriptors_, kSpareDescriptors);
  check(house_->nodes(), node_descriptors_,
        kSpareDescriptors + kDescriptorsOfNeighbour * neighbours);
}

void Torture::check_shared_memory() {
  const std::size_t files = house_->shared_files().size();
  if (files == house_->nodes().size()) return;
  leak(1, fmt::format("{} files in shared memory, of {} nodes", files, house_->nodes().size()));
}

void Torture::judge_old(TimePoint now) {
  const std::uint64_t newest = blocks_.round_at(now - kSettled - options_.timeout);
  // Prompts have been of that round and the one before it, or of later ones, since then.
  if (newest > 1) book_.close_below(TortureBlocks::id(newest - 1, 0, 0));
}

void Torture::judge() {
  const Judgement judgement = book_.judge_all();
  report_.judged = judgement.events;
  report_.reads = judgement.reads;
  report_.undisturbed = judgement.undisturbed;
  report_.undecided = judgement.undecided;
  report_.anomalies = judgement.anomalies;
  for (const std::string& told : judgement.told) report_.told.push_back(told);
}

}  // namespace membrain
