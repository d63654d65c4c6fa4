// What a benchmark program wrote about its rows (Google Benchmark's JSON), as medians by name.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tools/outcome.h"

namespace membrain {

/// Medians over repetitions, by row and counter; for a row that failed, why.
///
/// A row's name is without what Google Benchmark appends ("/min_time:0.300/real_time"). The time of
/// one iteration is the counter "time_us", in microseconds.
class BenchFigures {
 public:
  /// Adds what `text` holds. Complains about what is not a benchmark's output.
  Outcome<> add(std::string_view text);

  [[nodiscard]] std::optional<double> find(const std::string& row,
                                           const std::string& counter) const;
  /// Why `row` has no figures, if it said so.
  [[nodiscard]] std::optional<std::string> failure(const std::string& row) const;
  [[nodiscard]] bool has(const std::string& row) const { return medians_.contains(row); }

 private:
  std::map<std::string, std::map<std::string, double>> medians_;
  std::map<std::string, std::string> failures_;
};

/// "raw/tcp/4096/min_time:0.300/real_time" -> "raw/tcp/4096".
[[nodiscard]] std::string bench_row_name(std::string_view run_name);

}  // namespace membrain
