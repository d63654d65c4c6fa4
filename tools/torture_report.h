// What a torture run found, and how it is shown.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace membrain {

struct TortureReport {
  std::uint64_t seed = 0;
  std::chrono::milliseconds elapsed{0};             ///< under load
  std::map<std::string, std::uint64_t> operations;  ///< by what they are
  std::uint64_t failed = 0;                         ///< of these: refused, timed out, nobody there
  std::uint64_t bytes = 0;                          ///< fetched or stored
  std::uint64_t blocks_found = 0;
  std::uint64_t blocks_missed = 0;
  std::uint64_t corrupt_caught = 0;  ///< blocks whose bytes a reader refused
  std::map<std::string, std::uint64_t> faults;
  std::uint64_t judged = 0;       ///< operations on a block
  std::uint64_t reads = 0;        ///< of these: looked up, or fetched in vain
  std::uint64_t undisturbed = 0;  ///< of these: while nothing excused anything
  std::uint64_t undecided = 0;    ///< blocks whose history was too wide to be judged
  std::uint64_t late = 0;         ///< operations that ended more than a second after their deadline
  std::chrono::milliseconds latest{0};  ///< the longest that an operation went beyond its deadline

  // What there must be none of.
  std::uint64_t wrong_bytes = 0;
  std::uint64_t hangs = 0;
  std::uint64_t leaks = 0;
  std::uint64_t anomalies = 0;
  std::uint64_t crashes = 0;
  std::vector<std::string> told;  ///< what is wrong, in words

  [[nodiscard]] std::uint64_t operation_count() const noexcept;
  /// Of the reads that were judged, those that nothing excused.
  [[nodiscard]] double undisturbed_share() const noexcept;
  [[nodiscard]] bool sound() const noexcept;
};

/// One JSON object, indented, with a newline.
[[nodiscard]] std::string to_json(const TortureReport& report);

/// An aligned table for people.
[[nodiscard]] std::string to_table(const TortureReport& report);

}  // namespace membrain
