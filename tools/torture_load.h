// The engines of a torture run: processes that work as they like, and what they tell.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "tools/history_book.h"
#include "tools/outcome.h"
#include "tools/resident.h"
#include "tools/signals.h"
#include "tools/torture_blocks.h"
#include "tools/torture_report.h"
#include "tools/torture_wire.h"

namespace membrain {

struct TortureLoadConfig {
  std::uint64_t engines = 4;
  std::string servers;
  std::string secret;
  std::string folder;  ///< of logs
  TortureBlocks blocks;
  std::uint64_t seed = 1;
  std::chrono::milliseconds timeout{2000};
};

/// Every record goes into the book; whatever takes longer than it may is a hang.
///
/// Ownership  Owns the engine processes; borrows book and report. Threads: one.
class TortureLoad {
 public:
  /// What a client leaves transfers at their deadline. One that uses all of it (its node is
  /// stopped) still has its connection closed before it is reported, and waits for a processor:
  /// such operations are counted as late, and are hangs beyond kSlack.
  static constexpr std::chrono::milliseconds kDrain{1000};
  static constexpr std::chrono::milliseconds kSlack{500};
  /// An engine that says nothing for this much longer hangs.
  static constexpr std::chrono::seconds kSilence{10};

  TortureLoad(TortureLoadConfig config, HistoryBook& book, TortureReport& report);

  Outcome<> start();
  [[nodiscard]] std::size_t count() const noexcept { return engines_.size(); }
  [[nodiscard]] const std::string& name_of(std::size_t engine) const {
    return engines_[engine].process->name();
  }

  // What the tool does to one of them.
  Outcome<> start(std::size_t engine);
  void kill(std::size_t engine, TimePoint now);
  void stop(std::size_t engine, TimePoint now);
  void go_on(std::size_t engine, TimePoint now);

  /// Takes what they tell, for as long as `until` says and no stop is asked for.
  void listen(Signals& signals, TimePoint until, const std::function<bool()>& enough);
  /// All give back what they hold, and do no more. False if some have not by `deadline`.
  bool rest(Signals& signals, TimePoint deadline);
  /// Ends them.
  void finish();

 private:
  struct Engine {
    std::unique_ptr<Resident> process;
    std::uint32_t life = 0;
    TimePoint heard;
    TimePoint stopped_from;
    TimePoint stopped_to;
    bool resting = false;
    std::optional<TortureRecord> begun;  ///< what it has told to be under way
  };

  [[nodiscard]] ChildConfig child(std::size_t engine) const;
  void take_lines(Engine& engine, TimePoint now);
  void note(Engine& engine, const TortureRecord& record);
  void bury(Engine& engine, TimePoint now);
  void note_history(const HistoryCall& by, const TortureRecord& record);
  void note_lookup(const HistoryCall& by, const TortureRecord& record);
  [[nodiscard]] static bool was_stopped(const Engine& engine, const TortureRecord& record);
  void look_for_hang(const Engine& engine, const TortureRecord& record);
  void look_after(Engine& engine, TimePoint now);

  TortureLoadConfig config_;
  HistoryBook& book_;
  TortureReport& report_;
  std::vector<Engine> engines_;
  std::uint32_t lives_ = 0;
};

}  // namespace membrain
