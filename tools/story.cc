#include "tools/story.h"

#include <fmt/format.h>

#include <chrono>
#include <string_view>

#include "tools/units.h"

namespace membrain {
namespace {

std::string line(std::string_view what, std::size_t engine, const EngineReport& report,
                 std::uint64_t blocks, std::uint64_t bytes, std::uint64_t ns) {
  return fmt::format("MEMBRAIN {:<5} engine {}  request {:>5}  {:>3} of {:>3} blocks  {:>8} in {}",
                     what, engine, report.index, blocks, report.blocks_looked_up,
                     format_size(bytes), format_duration(std::chrono::nanoseconds(ns)));
}

}  // namespace

std::vector<Event> events_of(std::size_t engine, const EngineReport& report) {
  std::vector<Event> events;
  if (report.blocks_hit != 0) {
    std::string text =
        line("HIT", engine, report, report.blocks_hit, report.bytes_fetched, report.fetch_ns);
    text += fmt::format("  {} tokens saved", format_count(report.tokens_saved));
    if (report.wrong_bytes != 0) text += fmt::format("  {} WRONG BYTES", report.wrong_bytes);
    events.push_back({Event::Kind::hit, std::move(text)});
  }
  if (report.blocks_stored != 0) {
    events.push_back({Event::Kind::store, line("STORE", engine, report, report.blocks_stored,
                                               report.bytes_stored, report.store_ns)});
  }
  return events;
}

}  // namespace membrain
