// Request traces: a file of lines. What is accepted reads the same when it is written again.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"
#include "tools/trace.h"

namespace membrain::fuzz {
namespace {

std::string line_of(const TraceRequest& request) {
  return nlohmann::json{{"timestamp", request.timestamp_ms},
                        {"input_length", request.input_length},
                        {"output_length", request.output_length},
                        {"hash_ids", request.hash_ids}}
      .dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const std::span<const std::byte> bytes = bytes_of(data, size);
  if (const Outcome<TraceRequest> request = parse_trace_line(text_of(bytes))) {
    const Outcome<TraceRequest> again = parse_trace_line(line_of(*request));
    check(again.has_value() && *again == *request, "a request changed on its way");
  }
  const Outcome<std::vector<TraceRequest>> requests = read_trace(folder.put("trace", bytes), 0);
  if (!requests) {
    check(!requests.error().text.empty(), "nobody says what is wrong with a trace");
    return 0;
  }
  check(!requests->empty() && distinct_blocks(*requests) <= size, "more blocks than bytes");
  return 0;
}

}  // namespace membrain::fuzz
