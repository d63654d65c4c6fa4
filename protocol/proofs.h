// What proves to whom that one may: each a MAC bound to what it proves and to the connection.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "base/ids.h"
#include "base/mac.h"
#include "protocol/messages.h"

namespace membrain {

using Binding = std::array<std::byte, 32>;  ///< `Fabric::binding`

/// The key of one tenant, from the cluster's secret.
[[nodiscard]] Digest tenant_key(std::string_view secret, std::string_view tenant) noexcept;

/// What `Hello` carries.
[[nodiscard]] Digest hello_proof(const Digest& tenant_key, std::string_view tenant,
                                 const Binding& binding) noexcept;

/// What `RegisterNode` carries.
[[nodiscard]] Digest register_proof(std::string_view secret, NodeId node, Incarnation incarnation,
                                    const Binding& binding) noexcept;

/// What `GroupHello` carries.
[[nodiscard]] Digest group_proof(const Digest& tenant_key, std::string_view group,
                                 std::uint32_t rank, std::uint32_t size,
                                 const Binding& binding) noexcept;

/// The `mac` of a SessionProof, under the shard's grant key.
[[nodiscard]] MacTag session_mac(const Digest& grant_key, const wire::SessionProof& proof) noexcept;

}  // namespace membrain
