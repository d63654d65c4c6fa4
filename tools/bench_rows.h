// The rows of `membrain bench`: each a figure, what it is held against, and the target.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/bench_figures.h"
#include "tools/outcome.h"

namespace membrain {

/// A counter of a benchmark's row, in the unit that people read: `counter` times `scale`.
struct BenchQuantity {
  std::string_view row;
  std::string_view counter;
  double scale = 1;
};

/// What has to be true of a row.
enum class BenchRule : std::uint8_t {
  ratio_at_least,  ///< of value and control
  ratio_at_most,
  value_at_least,
  value_at_most,
  told,  ///< nothing: it is only shown
};

/// A second figure of a row, with a target of its own or none.
struct BenchExtra {
  std::string_view name;
  BenchQuantity value;
  std::string_view control = {};  ///< a row of the same counter and scale; none: no ratio
  BenchRule rule = BenchRule::told;
  double target = 0;
};

/// One row: where its figures come from and what is promised.
struct BenchRowSpec {
  std::string_view name;
  std::string_view unit;
  BenchQuantity value;
  /// Rows of the same counter and scale; the best of them counts.
  std::vector<std::string_view> controls = {};
  BenchRule rule = BenchRule::ratio_at_least;
  double target = 0;
  std::vector<BenchExtra> extras = {};
  /// The row's value is 1 - value / control: what the control would gain.
  bool cost = false;
};

/// Rows that one process of a benchmark program measures together, so that they can be compared.
struct BenchGroup {
  std::string_view program;
  std::string_view about;         ///< for people, while it runs
  std::chrono::seconds expected;  ///< with five repetitions
  std::vector<BenchRowSpec> rows;
};

/// All of them, in the order in which they are shown.
[[nodiscard]] const std::vector<BenchGroup>& bench_groups();

/// Groups and rows that are called `names`; all for none. Complains about a name that is none.
[[nodiscard]] Outcome<std::vector<BenchGroup>> chosen_groups(std::span<const std::string> names);

/// Rows of the benchmark program that `group` needs, without repetition.
[[nodiscard]] std::vector<std::string> rows_needed(const BenchGroup& group);
/// For --benchmark_filter: these rows and no other, whatever is appended to their names.
[[nodiscard]] std::string filter_for(std::span<const std::string> rows);

struct BenchExtraResult {
  std::string name;
  std::optional<double> value;
  std::optional<double> ratio;
  BenchRule rule = BenchRule::told;
  double target = 0;
  bool holds = false;
  std::string error;  ///< why there is no value or no ratio
};

/// What came out of one row. Without a value there is an error.
struct BenchRowResult {
  std::string name;
  std::string unit;
  std::optional<double> value;
  std::string control;  ///< the control's row; empty for none
  std::optional<double> control_value;
  std::optional<double> ratio;
  BenchRule rule = BenchRule::told;
  double target = 0;
  bool holds = false;   ///< with all of `extras`
  bool itself = false;  ///< without them
  std::vector<BenchExtraResult> extras;
  std::string error;
};

/// `why_none`: why the group's process ended badly; empty if it did not.
[[nodiscard]] BenchRowResult judge(const BenchRowSpec& spec, const BenchFigures& figures,
                                   const std::string& why_none);

/// {"rows": [...]}: null for what a row does not have.
[[nodiscard]] std::string to_json(std::span<const BenchRowResult> rows);

// The table, line by line.
[[nodiscard]] std::string bench_table_head();
[[nodiscard]] std::string bench_table_line(const BenchRowResult& row);

}  // namespace membrain
