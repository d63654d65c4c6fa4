// What a test can make the fake NCCL do.
#pragma once

#include <cstdint>

#include "transport/nccl/api.h"

namespace membrain::nccl::fake {

void set_version(std::int32_t version);
/// The call after `skip` others from now on answers `status`; one at a time.
void fail_call(std::uint64_t skip, Status status);
/// Calls so far.
std::uint64_t calls();
/// Communicators hear that a member is gone, until it is repaired.
void lose_member(bool lost);
/// Broadcasts of which nothing arrives any more, until it is repaired.
void hang(bool on);
/// Members that come stand in the call that makes their communicator, for so long.
void block(bool on);
/// Every so many broadcasts a bit is turned over on the way; 0: never.
void spoil_every(std::uint64_t broadcasts);
/// Communicators that were not aborted.
std::size_t open();

}  // namespace membrain::nccl::fake
