#include "tools/totals.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/units.h"

namespace membrain {
namespace {

using Json = nlohmann::ordered_json;

double rounded(double value, double steps) {
  return std::round(value * steps) / steps;
}

double in_us(std::uint64_t ns) {
  return rounded(static_cast<double>(ns) / 1e3, 10);
}

Json percentiles(const Histogram& histogram) {
  return Json{{"p50", in_us(histogram.percentile(50))}, {"p99", in_us(histogram.percentile(99))}};
}

std::string row(std::string_view name, std::string_view value) {
  return fmt::format("  {:<16}{}\n", name, value);
}

std::string percent(double share) {
  return fmt::format("{:.1f} %", share * 100);
}

double share_of(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string latency_row(std::string_view name, const Histogram& histogram) {
  const auto shown = [](std::uint64_t ns) {
    return fmt::format("{:>14} us", format_count(static_cast<std::uint64_t>(in_us(ns))));
  };
  return fmt::format("  {:<16}{}{}{}\n", name, shown(histogram.percentile(50)),
                     shown(histogram.percentile(99)), shown(histogram.largest()));
}

/// "unknown 182,790, timeout 3"; "none" if there is nothing to say.
template <class Counts>
std::string listed(const Counts& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    if (count == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, format_count(count));
  }
  return text.empty() ? "none" : text;
}

std::vector<std::pair<std::string_view, std::uint64_t>> by_name(const Misses& misses) {
  std::vector<std::pair<std::string_view, std::uint64_t>> named;
  for (std::size_t reason = 0; reason < misses.size(); ++reason) {
    named.emplace_back(kMissNames[reason], misses[reason]);
  }
  return named;
}

std::string lanes_text(const std::map<std::string, std::uint64_t>& lanes) {
  std::string text;
  for (const auto& [name, bytes] : lanes) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, format_size(bytes));
  }
  return text.empty() ? "none" : text;
}

}  // namespace

void Totals::add(const EngineReport& report, std::uint64_t input_length) {
  ++requests;
  tokens += input_length;
  blocks_looked_up += report.blocks_looked_up;
  blocks_hit += report.blocks_hit;
  tokens_saved += report.tokens_saved;
  blocks_stored += report.blocks_stored;
  blocks_duplicate += report.blocks_duplicate;
  bytes_fetched += report.bytes_fetched;
  bytes_stored += report.bytes_stored;
  wrong_bytes += report.wrong_bytes;
  fetching_ns += report.fetch_ns;
  if (report.lookup_ns != 0) lookup_ns.record(report.lookup_ns);
  if (report.fetch_ns != 0) fetch_ns.record(report.fetch_ns);
  if (report.store_ns != 0) store_ns.record(report.store_ns);
  for (std::size_t reason = 0; reason < misses.size(); ++reason) {
    misses[reason] += report.misses[reason];
  }
  for (const auto& [why, blocks] : report.not_stored) not_stored[why] += blocks;
  for (const auto& [lane, bytes] : report.lanes) lanes[lane] += bytes;
}

double Totals::hit_ratio() const noexcept {
  return share_of(blocks_hit, blocks_looked_up);
}

double Totals::fetch_gb_per_s() const noexcept {
  return share_of(bytes_fetched, fetching_ns);
}

std::string to_json(const Totals& totals) {
  Json object;
  object["requests"] = totals.requests;
  object["blocks_looked_up"] = totals.blocks_looked_up;
  object["blocks_hit"] = totals.blocks_hit;
  object["hit_ratio"] = rounded(totals.hit_ratio(), 1e6);
  object["tokens_saved"] = totals.tokens_saved;
  object["bytes_fetched"] = totals.bytes_fetched;
  object["bytes_stored"] = totals.bytes_stored;
  object["wrong_bytes"] = totals.wrong_bytes;
  object["fetch_gb_per_s"] = rounded(totals.fetch_gb_per_s(), 1e3);
  object["lookup_us"] = percentiles(totals.lookup_ns);
  object["fetch_us"] = percentiles(totals.fetch_ns);
  object["store_us"] = percentiles(totals.store_ns);
  Json& misses = object["misses"];
  for (std::size_t reason = 0; reason < totals.misses.size(); ++reason) {
    misses[std::string(kMissNames[reason])] = totals.misses[reason];
  }
  object["lanes"] = totals.lanes;
  object["instances"] = totals.instances;
  object["elapsed_s"] = rounded(std::chrono::duration<double>(totals.elapsed).count(), 1e3);
  object["tokens"] = totals.tokens;
  object["requests_lost"] = totals.requests_lost;
  object["engines_lost"] = totals.engines_lost;
  object["blocks_hit_across_instances"] = totals.blocks_hit_across_instances;
  object["blocks_stored"] = totals.blocks_stored;
  object["blocks_duplicate"] = totals.blocks_duplicate;
  object["blocks_not_stored"] = totals.not_stored;
  return object.dump(2) + "\n";
}

std::string to_table(const Totals& totals) {
  std::string text = "\n";
  const double seconds = std::chrono::duration<double>(totals.elapsed).count();
  text +=
      row("requests",
          fmt::format(
              "{} in {} by {} engine{}{}", format_count(totals.requests),
              format_duration(totals.elapsed), totals.instances, totals.instances == 1 ? "" : "s",
              seconds <= 0
                  ? ""
                  : fmt::format(" ({:.0f}/s)", static_cast<double>(totals.requests) / seconds)));
  if (totals.engines_lost != 0) {
    text += row("engines lost", fmt::format("{}, with {} requests", totals.engines_lost,
                                            format_count(totals.requests_lost)));
  }
  text +=
      row("blocks", fmt::format("{} looked up, {} hit ({})", format_count(totals.blocks_looked_up),
                                format_count(totals.blocks_hit), percent(totals.hit_ratio())));
  if (totals.instances > 1) {
    text += row("", fmt::format("{} of the hits were stored by another engine",
                                format_count(totals.blocks_hit_across_instances)));
  }
  text += row("tokens saved", fmt::format("{} of {} ({})", format_count(totals.tokens_saved),
                                          format_count(totals.tokens),
                                          percent(share_of(totals.tokens_saved, totals.tokens))));
  text += row("fetched", fmt::format("{} at {:.2f} GB/s for each engine",
                                     format_size(totals.bytes_fetched), totals.fetch_gb_per_s()));
  text +=
      row("stored",
          fmt::format("{} in {} blocks, {} were there already", format_size(totals.bytes_stored),
                      format_count(totals.blocks_stored), format_count(totals.blocks_duplicate)));
  text += row("not stored", listed(totals.not_stored));
  text += row("misses", listed(by_name(totals.misses)));
  text += row("lanes", lanes_text(totals.lanes));
  text += row("wrong bytes", format_count(totals.wrong_bytes));
  text += fmt::format("\n  {:<16}{:>17}{:>17}{:>17}\n", "per request", "median", "99 of 100",
                      "slowest");
  text += latency_row("lookup", totals.lookup_ns);
  text += latency_row("fetch", totals.fetch_ns);
  text += latency_row("store", totals.store_ns);
  return text;
}

}  // namespace membrain
