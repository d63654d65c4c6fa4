// What is behind a Group: a fabric and links of its own, on the client's data loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "cache/group/collective.h"
#include "cache/group/group_links.h"
#include "membrain/group.h"
#include "transport/completion.h"
#include "transport/fabric.h"

namespace membrain {

/// A member's connections. Made, used and destroyed on the data loop.
struct GroupLine {
  GroupLine(std::unique_ptr<Fabric> made, GroupTerms terms)
      : fabric(std::move(made)), links(*fabric, std::move(terms)), turn(links.loop().ready(), 1) {}

  std::unique_ptr<Fabric> fabric;
  GroupLinks links;
  std::unique_ptr<Collective> collective;  ///< null: none is wanted, or there
  CreditWindow turn;                       ///< one replication at a time
};

struct detail::GroupState {
  ~GroupState() {
    if (line) leave(line);
  }

  std::uint32_t rank = 0;
  std::uint32_t size = 0;
  int nccl_device = -1;
  /// Of calls, those that were refused too: else this member would be out of step for ever.
  std::uint64_t last_sequence = 0;
  std::unique_ptr<GroupLine> line;
  std::function<void(std::unique_ptr<GroupLine>&)> leave;  ///< ends it on its loop
};

}  // namespace membrain
