// Small texts that people and other programs write: sizes, durations, addresses, names.
#include <string>
#include <utility>

#include "base/log.h"
#include "protocol/servers.h"
#include "server/cluster/names.h"
#include "tests/fuzz/target.h"
#include "tools/units.h"

namespace membrain::fuzz {
namespace {

void addresses(std::string_view text) {
  if (const Outcome<std::string> one = parse_address(text)) {
    check(*one == text && parse_addresses(text).has_value(), "an address is no list of one");
  }
  if (const Outcome<std::string> list = parse_addresses(text)) {
    check(*list == text, "addresses are not as they were written");
  }
  const Servers servers(text);
  check(servers.count() >= 1 && servers.count() <= Servers::kMost, "too many servers");
}

void numbers(std::string_view text) {
  if (const Outcome<std::uint64_t> size = parse_size(text)) {
    check(parse_size(std::to_string(*size)) == *size, "a size changed");
    check(!format_size(*size).empty() && !format_count(*size).empty(), "a size has no text");
  }
  if (const auto duration = parse_duration(text)) {
    check(duration->count() >= 0, "a time before now");
    check(!format_duration(*duration).empty(), "a duration has no text");
  }
  if (const Outcome<double> speed = parse_speed(text)) check(*speed >= 0, "a speed backwards");
  static_cast<void>(parse_whole(text));
  static_cast<void>(parse_switch(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = text_of(bytes_of(data, size));
  addresses(text);
  numbers(text);
  static_cast<void>(log_level_named(text));
  const ClusterNames names("fuzz");
  const std::string key = names.eras(ShardId{0}) + std::string(text);
  for (const std::string_view candidate : {text, std::string_view(key)}) {
    const auto space = names.space_of(ShardId{0}, candidate);
    // Upper case is read too; what is written is lower case.
    if (space) check(names.space_of(ShardId{0}, names.era(ShardId{0}, *space)) == space, "a name");
  }
  return 0;
}

}  // namespace membrain::fuzz
