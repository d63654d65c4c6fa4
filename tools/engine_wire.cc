#include "tools/engine_wire.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "tools/whole_json.h"

namespace membrain {
namespace {

using nlohmann::json;

using Number = std::pair<const char*, std::uint64_t EngineReport::*>;
constexpr std::array<Number, 13> kNumbers{{
    {"index", &EngineReport::index},
    {"blocks_looked_up", &EngineReport::blocks_looked_up},
    {"blocks_hit", &EngineReport::blocks_hit},
    {"prefix_blocks", &EngineReport::prefix_blocks},
    {"tokens_saved", &EngineReport::tokens_saved},
    {"bytes_fetched", &EngineReport::bytes_fetched},
    {"wrong_bytes", &EngineReport::wrong_bytes},
    {"blocks_stored", &EngineReport::blocks_stored},
    {"blocks_duplicate", &EngineReport::blocks_duplicate},
    {"bytes_stored", &EngineReport::bytes_stored},
    {"lookup_ns", &EngineReport::lookup_ns},
    {"fetch_ns", &EngineReport::fetch_ns},
    {"store_ns", &EngineReport::store_ns},
}};

/// Runs `read` on the line; what does not fit is a complaint.
template <class T, class Read>
Outcome<T> parse(std::string_view line, Read read) {
  try {
    T value;
    read(parse_whole_json(line), value);
    return value;
  } catch (const json::exception& error) {
    return complain("a line between replay and engine is broken: {}", error.what());
  }
}

}  // namespace

std::string to_line(const EngineTask& task) {
  return json{
      {"index", task.index}, {"input_length", task.input_length}, {"hash_ids", task.hash_ids}}
      .dump();
}

std::string to_line(const EngineReport& report) {
  json object;
  for (const auto& [name, member] : kNumbers) object[name] = report.*member;
  object["misses"] = report.misses;
  object["not_stored"] = report.not_stored;
  object["lanes"] = report.lanes;
  return object.dump();
}

Outcome<EngineTask> task_from_line(std::string_view line) {
  return parse<EngineTask>(line, [](const json& object, EngineTask& task) {
    object.at("index").get_to(task.index);
    object.at("input_length").get_to(task.input_length);
    object.at("hash_ids").get_to(task.hash_ids);
  });
}

Outcome<EngineReport> report_from_line(std::string_view line) {
  return parse<EngineReport>(line, [](const json& object, EngineReport& report) {
    for (const auto& [name, member] : kNumbers) object.at(name).get_to(report.*member);
    object.at("misses").get_to(report.misses);
    object.at("not_stored").get_to(report.not_stored);
    object.at("lanes").get_to(report.lanes);
  });
}

}  // namespace membrain
