#include "tools/torture_wire.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>

#include "tools/whole_json.h"

namespace membrain {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 9> kOps{
    "connected", "open", "lookup", "fetch", "reserve", "store", "release", "clear", "resting"};

}  // namespace

std::string_view to_string(TortureRecord::Op op) noexcept {
  return kOps[static_cast<std::size_t>(op)];
}

std::string to_line(const TortureRecord& record) {
  return json{{"op", to_string(record.op)},
              {"call", record.call},
              {"ret", record.ret},
              {"space", record.space},
              {"era", record.era},
              {"next_era", record.next_era},
              {"match", record.match},
              {"pinned", record.pinned},
              {"outcome", record.outcome},
              {"blocks", record.blocks},
              {"items", record.items},
              {"bytes", record.bytes},
              {"wrong_bytes", record.wrong_bytes}}
      .dump();
}

Outcome<TortureRecord> torture_record_from_line(std::string_view line) {
  try {
    const json object = parse_whole_json(line);
    TortureRecord record;
    const auto op = std::ranges::find(kOps, object.at("op").get<std::string>());
    if (op == kOps.end()) return complain("an engine tells of an operation that there is not");
    record.op = static_cast<TortureRecord::Op>(op - kOps.begin());
    object.at("call").get_to(record.call);
    object.at("ret").get_to(record.ret);
    object.at("space").get_to(record.space);
    object.at("era").get_to(record.era);
    object.at("next_era").get_to(record.next_era);
    object.at("match").get_to(record.match);
    object.at("pinned").get_to(record.pinned);
    object.at("outcome").get_to(record.outcome);
    object.at("blocks").get_to(record.blocks);
    object.at("items").get_to(record.items);
    object.at("bytes").get_to(record.bytes);
    object.at("wrong_bytes").get_to(record.wrong_bytes);
    if (record.items.size() != record.blocks.size()) {
      return complain("an engine tells of {} blocks and {} outcomes", record.blocks.size(),
                      record.items.size());
    }
    return record;
  } catch (const json::exception& error) {
    return complain("a line of an engine is broken: {}", error.what());
  }
}

}  // namespace membrain
