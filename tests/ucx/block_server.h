// A process that serves blocks, whose bytes follow from their numbers.
#pragma once

#include <cstddef>

#include "tests/ucx/lane.h"
#include "transport/fabric.h"

namespace membrain::ucx_test {

/// Asked for that one, it sends thousands of small messages.
inline constexpr std::size_t kFlood = static_cast<std::size_t>(-1);

/// Over TCP half of the blocks travel with their message, and half are received by rendezvous.
std::size_t block_bytes(std::size_t number);

/// Listens at `address`, prints where, answers "N" with block N and takes what it is sent, until
/// its standard input ends. Returns the process's exit status.
int serve_blocks(const Lane& lane, const Address& address);

}  // namespace membrain::ucx_test
