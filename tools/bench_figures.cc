#include "tools/bench_figures.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

namespace membrain {
namespace {

using Json = nlohmann::json;
using Samples = std::map<std::string, std::map<std::string, std::vector<double>>>;

constexpr std::array<std::string_view, 7> kSuffixes{"min_time:", "min_warmup_time:", "iterations:",
                                                    "repeats:",  "process_time",     "manual_time",
                                                    "real_time"};

double microseconds_of(std::string_view unit) {
  if (unit == "ns") return 1e-3;
  if (unit == "us") return 1;
  if (unit == "ms") return 1e3;
  return 1e6;
}

/// The middle one, or the mean of the two in the middle.
double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

void take(const Json& run, std::map<std::string, std::vector<double>>& counters) {
  // What every run has beside its counters.
  static const std::array<std::string_view, 7> kOrdinary{
      "real_time",        "cpu_time",     "iterations", "repetitions",
      "repetition_index", "family_index", "threads"};
  const double unit = microseconds_of(run.value("time_unit", "ns"));
  counters["time_us"].push_back(run.value("real_time", 0.0) * unit);
  for (const auto& [key, value] : run.items()) {
    if (value.is_number() && std::ranges::find(kOrdinary, key) == kOrdinary.end()) {
      counters[key].push_back(value.get<double>());
    }
  }
}

}  // namespace

std::string bench_row_name(std::string_view run_name) {
  while (true) {
    const std::size_t slash = run_name.rfind('/');
    if (slash == std::string_view::npos) break;
    const std::string_view last = run_name.substr(slash + 1);
    const bool appended = std::ranges::any_of(
        kSuffixes, [&](std::string_view suffix) { return last.starts_with(suffix); });
    if (!appended) break;
    run_name = run_name.substr(0, slash);
  }
  return std::string(run_name);
}

Outcome<> BenchFigures::add(std::string_view text) {
  const Json parsed = Json::parse(text, nullptr, false);
  if (parsed.is_discarded() || !parsed.is_object() || !parsed.contains("benchmarks") ||
      !parsed["benchmarks"].is_array()) {
    return complain("it wrote no figures");
  }
  Samples samples;
  for (const Json& run : parsed["benchmarks"]) {
    if (!run.is_object() || run.value("run_type", "iteration") != "iteration") continue;
    const std::string name = bench_row_name(run.value("run_name", run.value("name", "")));
    if (run.value("error_occurred", false)) {
      failures_[name] = run.value("error_message", "it failed");
    } else {
      take(run, samples[name]);
    }
  }
  for (const auto& [name, counters] : samples) {
    for (const auto& [counter, values] : counters) medians_[name][counter] = median(values);
  }
  return {};
}

std::optional<double> BenchFigures::find(const std::string& row, const std::string& counter) const {
  const auto found = medians_.find(row);
  if (found == medians_.end()) return std::nullopt;
  const auto value = found->second.find(counter);
  if (value == found->second.end()) return std::nullopt;
  return value->second;
}

std::optional<std::string> BenchFigures::failure(const std::string& row) const {
  const auto found = failures_.find(row);
  if (found == failures_.end()) return std::nullopt;
  return found->second;
}

}  // namespace membrain
