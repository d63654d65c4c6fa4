// Builds without gRPC.
#include "server/cluster/etcd/etcd.h"

namespace membrain {

Result<std::unique_ptr<Coordination>> make_etcd_coordination(Loop&, EtcdConfig) {
  return fail(Errc::unavailable,
              "this build has no etcd: install libgrpc++-dev and protobuf-compiler-grpc, and build"
              " again");
}

}  // namespace membrain
