#include "tools/bench_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace membrain {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const BenchGroup& group : bench_groups()) {
    for (const BenchRowSpec& row : group.rows) names.emplace_back(row.name);
  }
  return names;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += "\n  " + name;
  return text;
}

std::optional<double> value_of(const BenchQuantity& quantity, const BenchFigures& figures) {
  std::optional<double> value =
      figures.find(std::string(quantity.row), std::string(quantity.counter));
  if (value) *value *= quantity.scale;
  return value;
}

bool obeys(BenchRule rule, std::optional<double> value, std::optional<double> ratio,
           double target) {
  switch (rule) {
    case BenchRule::ratio_at_least:
      return ratio && *ratio >= target;
    case BenchRule::ratio_at_most:
      return ratio && *ratio <= target;
    case BenchRule::value_at_least:
      return value && *value >= target;
    case BenchRule::value_at_most:
      return value && *value <= target;
    case BenchRule::told:
      return true;
  }
  return false;
}

std::optional<double> ratio_of(std::optional<double> value, std::optional<double> control) {
  if (!value || !control || *control == 0) return std::nullopt;
  return *value / *control;
}

/// Why a row of the benchmark has no figure.
std::string why_missing(std::string_view row, const BenchFigures& figures,
                        const std::string& why_none) {
  const std::string name(row);
  if (const std::optional<std::string> why = figures.failure(name)) {
    return fmt::format("{}: {}", name, *why);
  }
  if (!why_none.empty()) return why_none;
  if (figures.has(name)) return fmt::format("{} lacks the counter", name);
  return fmt::format("the benchmark has no row {}", name);
}

/// The control that did best: the greatest bandwidth, or the shortest time.
void choose_control(const BenchRowSpec& spec, const BenchFigures& figures, BenchRowResult& result) {
  const bool less_is_better = spec.rule == BenchRule::ratio_at_most;
  for (const std::string_view row : spec.controls) {
    const std::optional<double> value =
        value_of({row, spec.value.counter, spec.value.scale}, figures);
    if (!value) continue;
    const bool better = !result.control_value || (less_is_better ? *value < *result.control_value
                                                                 : *value > *result.control_value);
    if (better) {
      result.control = row;
      result.control_value = value;
    }
  }
}

BenchExtraResult judge_extra(const BenchExtra& extra, const BenchFigures& figures,
                             const std::string& why_none) {
  BenchExtraResult result;
  result.name = extra.name;
  result.rule = extra.rule;
  result.target = extra.target;
  result.value = value_of(extra.value, figures);
  if (!result.value) result.error = why_missing(extra.value.row, figures, why_none);
  if (!extra.control.empty()) {
    const BenchQuantity control{extra.control, extra.value.counter, extra.value.scale};
    result.ratio = ratio_of(result.value, value_of(control, figures));
    if (result.value && !result.ratio) {
      result.error = why_missing(extra.control, figures, why_none);
    }
  }
  result.holds = obeys(extra.rule, result.value, result.ratio, extra.target);
  return result;
}

std::string_view sign_of(BenchRule rule) {
  switch (rule) {
    case BenchRule::ratio_at_least:
    case BenchRule::value_at_least:
      return ">=";
    case BenchRule::ratio_at_most:
    case BenchRule::value_at_most:
      return "<=";
    case BenchRule::told:
      return "";
  }
  return "";
}

std::string_view name_of(BenchRule rule) {
  switch (rule) {
    case BenchRule::ratio_at_least:
      return "ratio >=";
    case BenchRule::ratio_at_most:
      return "ratio <=";
    case BenchRule::value_at_least:
      return "value >=";
    case BenchRule::value_at_most:
      return "value <=";
    case BenchRule::told:
      return "none";
  }
  return "";
}

/// Four digits that count.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double scale = std::pow(10, 3 - std::floor(std::log10(std::abs(value))));
  return std::round(value * scale) / scale;
}

Json or_null(std::optional<double> value) {
  return value ? Json(rounded(*value)) : Json(nullptr);
}

Json json_of(const BenchExtraResult& extra) {
  Json object;
  object["name"] = extra.name;
  object["value"] = or_null(extra.value);
  object["ratio"] = or_null(extra.ratio);
  object["target"] = extra.rule == BenchRule::told ? Json(nullptr) : Json(extra.target);
  object["rule"] = name_of(extra.rule);
  object["holds"] = extra.holds;
  if (!extra.error.empty()) object["error"] = extra.error;
  return object;
}

std::string number(double value) {
  if (std::abs(value) >= 100) return fmt::format("{:.0f}", value);
  if (std::abs(value) >= 10) return fmt::format("{:.1f}", value);
  return fmt::format("{:.2f}", value);
}

std::string number_or_none(std::optional<double> value) {
  return value ? number(*value) : "";
}

std::string target_of(BenchRule rule, double target) {
  return rule == BenchRule::told ? "" : fmt::format("{} {}", sign_of(rule), target);
}

std::string line(std::string_view name, std::string_view value, std::string_view against,
                 std::string_view control, std::string_view ratio, std::string_view target,
                 std::string_view holds) {
  std::string text = fmt::format("{:<27} {:>15}  {:<30} {:>6} {:>6}  {:<8} {}", name, value,
                                 against, control, ratio, target, holds);
  text.erase(text.find_last_not_of(' ') + 1);
  return text + "\n";
}

}  // namespace

Outcome<std::vector<BenchGroup>> chosen_groups(std::span<const std::string> names) {
  const std::vector<std::string> known = all_names();
  for (const std::string& name : names) {
    if (std::ranges::find(known, name) == known.end()) {
      return complain("there is no row \"{}\"; the rows are:{}", name, listed(known));
    }
  }
  std::vector<BenchGroup> groups = bench_groups();
  if (names.empty()) return groups;
  for (BenchGroup& group : groups) {
    std::erase_if(group.rows, [&](const BenchRowSpec& row) {
      return std::ranges::find(names, row.name) == names.end();
    });
  }
  std::erase_if(groups, [](const BenchGroup& group) { return group.rows.empty(); });
  return groups;
}

std::vector<std::string> rows_needed(const BenchGroup& group) {
  std::vector<std::string> rows;
  const auto need = [&rows](std::string_view row) {
    if (!row.empty() && std::ranges::find(rows, row) == rows.end()) rows.emplace_back(row);
  };
  for (const BenchRowSpec& spec : group.rows) {
    need(spec.value.row);
    for (const std::string_view control : spec.controls) need(control);
    for (const BenchExtra& extra : spec.extras) {
      need(extra.value.row);
      need(extra.control);
    }
  }
  return rows;
}

std::string filter_for(std::span<const std::string> rows) {
  std::string names;
  for (const std::string& row : rows) names += (names.empty() ? "" : "|") + row;
  return "^(" + names + ")(/(min_time|min_warmup_time|iterations|repeats):[^/]*|/[a-z]*_time)*$";
}

BenchRowResult judge(const BenchRowSpec& spec, const BenchFigures& figures,
                     const std::string& why_none) {
  BenchRowResult result;
  result.name = spec.name;
  result.unit = spec.unit;
  result.rule = spec.rule;
  result.target = spec.target;
  const std::optional<double> value = value_of(spec.value, figures);
  choose_control(spec, figures, result);
  if (!value || (!spec.controls.empty() && !result.control_value)) {
    result.error = why_missing(value ? spec.controls.front() : spec.value.row, figures, why_none);
    if (!spec.controls.empty()) result.control = spec.controls.front();
    return result;
  }
  result.ratio = ratio_of(value, result.control_value);
  result.value = spec.cost && result.ratio ? 1 - *result.ratio : *value;
  result.itself = obeys(spec.rule, result.value, result.ratio, spec.target);
  result.holds = result.itself;
  for (const BenchExtra& extra : spec.extras) {
    result.extras.push_back(judge_extra(extra, figures, why_none));
    result.holds = result.holds && result.extras.back().holds;
  }
  return result;
}

std::string to_json(std::span<const BenchRowResult> rows) {
  Json list = Json::array();
  for (const BenchRowResult& row : rows) {
    Json object;
    object["name"] = row.name;
    object["value"] = or_null(row.value);
    object["unit"] = row.unit;
    object["control"] = row.control.empty() ? Json(nullptr) : Json(row.control);
    object["control_value"] = or_null(row.control_value);
    object["ratio"] = or_null(row.ratio);
    object["target"] = row.target;
    object["holds"] = row.holds;
    object["rule"] = name_of(row.rule);
    if (!row.extras.empty()) {
      object["also"] = Json::array();
      for (const BenchExtraResult& extra : row.extras) object["also"].push_back(json_of(extra));
    }
    if (!row.error.empty()) object["error"] = row.error;
    list.push_back(std::move(object));
  }
  return Json{{"rows", std::move(list)}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string bench_table_head() {
  return line("row", "value", "against", "", "ratio", "target", "holds");
}

std::string bench_table_line(const BenchRowResult& row) {
  if (!row.value) return fmt::format("{:<27} not measured: {}\n", row.name, row.error);
  const bool of_ratio =
      row.rule == BenchRule::ratio_at_least || row.rule == BenchRule::ratio_at_most;
  std::string text =
      line(row.name, number(*row.value) + " " + row.unit, row.control,
           number_or_none(row.control_value), of_ratio ? number_or_none(row.ratio) : "",
           target_of(row.rule, row.target), row.itself ? "yes" : "NO");
  for (const BenchExtraResult& extra : row.extras) {
    if (!extra.error.empty()) {
      text += fmt::format("{:<43}  {}: {}\n", "", extra.name, extra.error);
      continue;
    }
    text += line("", number(*extra.value) + " " + row.unit, extra.name, "",
                 number_or_none(extra.ratio), target_of(extra.rule, extra.target),
                 extra.rule == BenchRule::told ? "" : (extra.holds ? "yes" : "NO"));
  }
  return text;
}

}  // namespace membrain
