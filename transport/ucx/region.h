// UcxRegion: memory that UCX has registered.
#pragma once

#include <ucp/api/ucp.h>

#include <memory>
#include <span>
#include <utility>

#include "transport/fabric.h"
#include "transport/ucx/ucx_context.h"

namespace membrain {

/// Registers memory with a context; `ucp_mem_unmap` takes it back. `out_of_capacity` when it
/// cannot be locked.
Result<ucp_mem_h> map_memory(const UcxContext& context, std::span<std::byte> memory,
                             MemoryKind kind = MemoryKind::host);

[[nodiscard]] constexpr ucs_memory_type_t memory_type_of(MemoryKind kind) noexcept {
  return kind == MemoryKind::cuda ? UCS_MEMORY_TYPE_CUDA : UCS_MEMORY_TYPE_HOST;
}

class UcxRegion final : public Region {
 public:
  static Result<std::unique_ptr<Region>> create(std::shared_ptr<UcxContext> context,
                                                std::span<std::byte> memory, MemoryKind kind);
  ~UcxRegion() override;

  [[nodiscard]] std::span<std::byte> memory() const noexcept override { return memory_; }
  /// The handle with which `context` moves `segment`, if its region was made for that.
  [[nodiscard]] static ucp_mem_h handle_for(const Segment& segment,
                                            const UcxContext& context) noexcept;

 private:
  UcxRegion(std::shared_ptr<UcxContext> context, std::span<std::byte> memory,
            ucp_mem_h handle) noexcept
      : context_(std::move(context)), memory_(memory), handle_(handle) {}

  std::shared_ptr<UcxContext> context_;
  std::span<std::byte> memory_;
  ucp_mem_h handle_;
};

}  // namespace membrain
