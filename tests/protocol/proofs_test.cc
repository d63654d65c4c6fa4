#include "protocol/proofs.h"

#include <gtest/gtest.h>

namespace membrain {
namespace {

TEST(Proofs, AreBoundToSecretTenantAndConnection) {
  Binding one{};
  Binding two{};
  two[0] = std::byte{1};
  const Digest key = tenant_key("secret", "a");
  const Digest proof = hello_proof(key, "a", one);
  EXPECT_NE(hello_proof(key, "a", two), proof);
  EXPECT_NE(hello_proof(tenant_key("other", "a"), "a", one), proof);
  EXPECT_NE(hello_proof(tenant_key("secret", "b"), "b", one), proof);
  EXPECT_NE(register_proof("secret", NodeId{1}, Incarnation{1}, one),
            register_proof("secret", NodeId{1}, Incarnation{2}, one));
}

TEST(Proofs, ASessionMacCoversEveryField) {
  const Digest key = tenant_key("secret", "a");
  const wire::SessionProof base{SessionId{1}, Epoch{1}, LookupId{1}, 1, {}};
  const MacTag mac = session_mac(key, base);
  wire::SessionProof other = base;
  other.session.value = 2;
  EXPECT_NE(session_mac(key, other), mac);
  other = base, other.epoch.value = 2;
  EXPECT_NE(session_mac(key, other), mac);
  other = base, other.grant.value = 0;
  EXPECT_NE(session_mac(key, other), mac);
  other = base, other.expires_ms = 2;
  EXPECT_NE(session_mac(key, other), mac);
}

}  // namespace
}  // namespace membrain
