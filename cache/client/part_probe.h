// PartProbe: which block parts the shard knows already.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/clock.h"
#include "protocol/messages.h"
#include "transport/completion.h"
#include "transport/task.h"

namespace membrain {

/// Asks the shard which parts it knows. Called on the data loop; there, `answered` finishes in any
/// case, at the latest soon after `deadline`: with a bitmap in `answer`, or without one. Whoever is
/// asked fills in the session.
using AskParts = std::function<void(wire::ProbeParts request, TimePoint deadline,
                                    wire::ProbedParts& answer, Completion& answered)>;

/// One question about any number of parts, in as few messages as they fit.
///
/// Threads  The data loop only. `answered` has finished before it goes.
class PartProbe {
 public:
  PartProbe(ReadyQueue& ready, NamespaceId space, Era era,
            const std::vector<wire::PartName>& parts);

  void ask(const AskParts& shard, TimePoint deadline);
  [[nodiscard]] Completion& answered() noexcept { return answered_; }
  /// The shard said so. What it said nothing of is not known.
  [[nodiscard]] bool known(std::size_t part) const noexcept;

 private:
  std::vector<wire::ProbeParts> asked_;
  std::vector<wire::ProbedParts> answers_;
  Completion answered_;
};

}  // namespace membrain
