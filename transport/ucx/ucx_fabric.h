// Fabric over UCX: what node, server and client use outside of tests.
#pragma once

#include <memory>
#include <string>

#include "transport/fabric.h"
#include "transport/ucx/ucx_context.h"

namespace membrain {

/// What has to be current on a thread while UCX works there: the context of the GPU whose memory it
/// moves.
///
/// Threads  The loop's, and whichever makes and destroys the fabric.
class UcxSurroundings {
 public:
  virtual ~UcxSurroundings() = default;
  /// Once more inside: the last `leave` ends it.
  virtual void enter() noexcept = 0;
  virtual void leave() noexcept = 0;
};

struct UcxFabricConfig {
  std::string secret;  ///< the cluster's; both ends of a connection must know it
  std::string label;   ///< in log lines, e.g. "data"
  std::shared_ptr<UcxSurroundings> around = nullptr;  ///< null: nothing has to be
};

/// A worker of its own in `context`, driven by `loop`.
///
/// First contact is a TCP exchange of our own (docs/adr/0004-first-contact.md); its socket stays
/// open behind the connection, so that a peer's end is known at once. Peers on the same host talk
/// through shared memory, and large payloads are read straight from the sender's memory by the
/// receiver.
///
/// Ownership  The fabric goes before its loop and its regions' memory. Destroying it closes every
///            connection, which takes up to a second if a peer does not answer; no connect or
///            close may be under way then, and no Payload may be left.
/// Threads    The loop's.
/// Errors     `connect` may block while a host name is looked up; numbers and "localhost" are not.
///            `send` ends with `out_of_capacity` if too much waits for a peer that takes nothing.
///            An operation that fails, fails its connection.
Result<std::unique_ptr<Fabric>> make_ucx_fabric(std::shared_ptr<UcxContext> context, Loop& loop,
                                                UcxFabricConfig config);

}  // namespace membrain
