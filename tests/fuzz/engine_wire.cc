// What replay and its engines say to each other: a line of JSON.
#include <string>

#include "tests/fuzz/target.h"
#include "tools/engine_wire.h"

namespace membrain::fuzz {

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view line = text_of(bytes_of(data, size));
  if (const Outcome<EngineTask> task = task_from_line(line)) {
    const std::string once = to_line(*task);
    const Outcome<EngineTask> again = task_from_line(once);
    check(again.has_value() && to_line(*again) == once, "a task changed on its way");
  }
  if (const Outcome<EngineReport> report = report_from_line(line)) {
    const Outcome<EngineReport> again = report_from_line(to_line(*report));
    check(again.has_value() && *again == *report, "a report changed on its way");
  }
  return 0;
}

}  // namespace membrain::fuzz
