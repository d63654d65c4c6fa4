#include "tools/torture_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "tools/units.h"

namespace membrain {

std::uint64_t TortureReport::operation_count() const noexcept {
  std::uint64_t count = 0;
  for (const auto& [what, times] : operations) count += times;
  return count;
}

double TortureReport::undisturbed_share() const noexcept {
  return reads == 0 ? 0 : static_cast<double>(undisturbed) / static_cast<double>(reads);
}

bool TortureReport::sound() const noexcept {
  return wrong_bytes == 0 && hangs == 0 && leaks == 0 && anomalies == 0 && crashes == 0;
}

std::string to_json(const TortureReport& report) {
  nlohmann::ordered_json object;
  object["seed"] = report.seed;
  object["elapsed_s"] = static_cast<double>(report.elapsed.count()) / 1000;
  object["operations"] = report.operation_count();
  object["operations_by_kind"] = report.operations;
  object["failed"] = report.failed;
  object["bytes"] = report.bytes;
  object["blocks_found"] = report.blocks_found;
  object["blocks_missed"] = report.blocks_missed;
  object["corrupt_caught"] = report.corrupt_caught;
  object["faults"] = report.faults;
  object["judged"] = report.judged;
  object["judged_reads"] = report.reads;
  object["judged_undisturbed"] = report.undisturbed;
  object["undisturbed_share"] = report.undisturbed_share();
  object["undecided"] = report.undecided;
  object["past_deadline_and_a_second"] = report.late;
  object["latest_past_deadline_ms"] = report.latest.count();
  object["wrong_bytes"] = report.wrong_bytes;
  object["hangs"] = report.hangs;
  object["leaks"] = report.leaks;
  object["anomalies"] = report.anomalies;
  object["crashes"] = report.crashes;
  object["told"] = report.told;
  return object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string to_table(const TortureReport& report) {
  const auto row = [](const std::string& name, const std::string& value) {
    return fmt::format("  {:<26} {:>16}\n", name, value);
  };
  const std::pair<const char*, std::uint64_t> none[] = {{"wrong bytes", report.wrong_bytes},
                                                        {"hangs", report.hangs},
                                                        {"leaks", report.leaks},
                                                        {"anomalies", report.anomalies},
                                                        {"crashes", report.crashes}};
  std::string text = fmt::format("torture, {} under load, seed {}\n",
                                 format_duration(report.elapsed), report.seed);
  text += row("operations", format_count(report.operation_count()));
  for (const auto& [what, times] : report.operations) text += row("  " + what, format_count(times));
  text += row("failed", format_count(report.failed));
  text += row("bytes", format_size(report.bytes));
  text += row("blocks found", format_count(report.blocks_found));
  text += row("blocks missed", format_count(report.blocks_missed));
  text += row("corrupt blocks refused", format_count(report.corrupt_caught));
  text += row("judged", format_count(report.judged));
  text += row("reads judged", format_count(report.reads));
  text +=
      row("  of them undisturbed", fmt::format("{} ({:.0f} %)", format_count(report.undisturbed),
                                               100 * report.undisturbed_share()));
  text += row("a second past deadline", format_count(report.late));
  text += row("  latest past deadline", format_duration(report.latest));
  text += row("histories undecided", format_count(report.undecided));
  text += "faults\n";
  for (const auto& [kind, times] : report.faults) text += row(kind, format_count(times));
  text += "of these there must be none\n";
  for (const auto& [name, count] : none) text += row(name, format_count(count));
  for (const std::string& told : report.told) text += "  " + told + "\n";
  return text;
}

}  // namespace membrain
