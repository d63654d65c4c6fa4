#include "tools/trace.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

namespace membrain {
namespace {

using nlohmann::json;

/// A hostile line must not ask for any amount of memory: a prompt of 2^31 tokens.
constexpr std::size_t kMaxBlocksPerRequest = std::size_t{1} << 22;

/// What stands where something else should. Lists and objects are named only: they may be nested
/// deeper than the stack is when they are spelled out.
std::string shown(const json& value) {
  if (value.is_structured()) return value.type_name();
  return value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40);
}

/// A number of the trace: whole, not negative. Timestamps of some traces carry decimals.
Outcome<std::uint64_t> whole_number(const json& value, std::string_view name) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (number >= 0 && number < 1.8e19) return static_cast<std::uint64_t>(number);
  }
  return complain("\"{}\" must be a number that is not negative, not {}", name, shown(value));
}

Outcome<std::uint64_t> field(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return complain("\"{}\" is missing", name);
  return whole_number(*found, name);
}

Outcome<std::vector<std::uint64_t>> hash_ids_of(const json& object) {
  const auto found = object.find("hash_ids");
  if (found == object.end()) return complain("\"hash_ids\" is missing");
  if (!found->is_array()) return complain("\"hash_ids\" must be a list of numbers");
  if (found->size() > kMaxBlocksPerRequest) {
    return complain("\"hash_ids\" has {} entries, more than {}", found->size(),
                    kMaxBlocksPerRequest);
  }
  std::vector<std::uint64_t> ids;
  ids.reserve(found->size());
  for (const json& value : *found) {
    if (!value.is_number_unsigned()) {
      return complain("\"hash_ids\" must hold whole numbers from 0 to 2^64-1 only, not {}",
                      shown(value));
    }
    ids.push_back(value.get<std::uint64_t>());
  }
  return ids;
}

}  // namespace

Outcome<TraceRequest> parse_trace_line(std::string_view line) {
  const json object = json::parse(line, nullptr, false);
  if (object.is_discarded()) return complain("this is not JSON");
  if (!object.is_object()) return complain("a request must be a JSON object");
  TraceRequest request;
  const std::pair<const char*, std::uint64_t*> fields[] = {
      {"timestamp", &request.timestamp_ms},
      {"input_length", &request.input_length},
      {"output_length", &request.output_length},
  };
  for (const auto& [name, value] : fields) {
    const Outcome<std::uint64_t> number = field(object, name);
    if (!number) return tl::unexpected(number.error());
    *value = *number;
  }
  Outcome<std::vector<std::uint64_t>> ids = hash_ids_of(object);
  if (!ids) return tl::unexpected(ids.error());
  request.hash_ids = std::move(*ids);
  return request;
}

Outcome<std::vector<TraceRequest>> read_trace(const std::string& path, std::uint64_t limit) {
  std::ifstream file(path);
  if (!file) return complain("{}: cannot be read: {}", path, std::strerror(errno));
  std::vector<TraceRequest> requests;
  std::string line;
  for (std::uint64_t number = 1; (limit == 0 || requests.size() < limit); ++number) {
    if (!std::getline(file, line)) break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Outcome<TraceRequest> request = parse_trace_line(line);
    if (!request) return complain("{}:{}: {}", path, number, request.error().text);
    requests.push_back(std::move(*request));
  }
  if (file.bad()) return complain("{}: cannot be read: {}", path, std::strerror(errno));
  if (requests.empty()) return complain("{}: there is no request in it", path);
  return requests;
}

std::uint64_t distinct_blocks(const std::vector<TraceRequest>& requests) {
  std::unordered_set<std::uint64_t> seen;
  for (const TraceRequest& request : requests) {
    seen.insert(request.hash_ids.begin(), request.hash_ids.end());
  }
  return seen.size();
}

std::uint64_t tokens_saved(std::uint64_t hit_blocks, std::uint64_t input_length) {
  return std::min(hit_blocks * kTraceBlockTokens, input_length);
}

}  // namespace membrain
