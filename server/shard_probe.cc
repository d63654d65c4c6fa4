// What a store asks before it moves bytes: which of these block parts exist.
#include <span>
#include <utility>

#include "server/shard.h"

namespace membrain {

Result<wire::ProbedParts> Shard::probe_parts(const wire::ProbeParts& request, TimePoint now) {
  const Session* session = heard(request.session, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  const Result<SpaceIndex> found = space_of(*session, request.space);
  if (!found) return fail(found.error());
  if (!has_all(request.parts, &wire::PartName::key)) return fail(kElsewhere);
  const SpaceIndex space = *found;
  wire::ProbedParts answer;
  answer.bitmap.assign((request.parts.size() + 7) / 8, 0);
  if (spaces_[space].era != request.era) return answer;
  BlockName name;
  name.space = space;
  name.era = request.era;
  names_.clear();
  for (const wire::PartName& part : request.parts) {
    name.key = part.key;
    name.part = part.part;
    names_.push_back(name);
  }
  std::vector<Ref> refs(names_.size());
  catalog_.find_all(names_, refs);
  for (std::size_t i = 0; i < refs.size(); ++i) {
    if (refs[i] == kNoRef || !catalog_.has_kept(refs[i])) continue;
    answer.bitmap[i / 8] = static_cast<std::uint8_t>(answer.bitmap[i / 8] | 1U << (i % 8));
  }
  return answer;
}

}  // namespace membrain
