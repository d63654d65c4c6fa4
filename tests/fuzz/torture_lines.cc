// What torture's engines tell: a line of JSON for each operation.
#include <string>

#include "tests/fuzz/target.h"
#include "tools/torture_wire.h"

namespace membrain::fuzz {

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Outcome<TortureRecord> record = torture_record_from_line(text_of(bytes_of(data, size)));
  if (!record) {
    check(!record.error().text.empty(), "nobody says what is wrong with a line");
    return 0;
  }
  check(!to_string(record->op).empty(), "an operation without a name");
  check(record->items.size() == record->blocks.size(), "blocks without an outcome");
  const Outcome<TortureRecord> again = torture_record_from_line(to_line(*record));
  check(again.has_value() && *again == *record, "a record changed on its way");
  return 0;
}

}  // namespace membrain::fuzz
