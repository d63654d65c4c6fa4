#include "transport/ucx/region.h"

namespace membrain {

Result<ucp_mem_h> map_memory(const UcxContext& context, std::span<std::byte> memory,
                             MemoryKind kind) {
  if (memory.empty()) return fail(Errc::invalid_argument, "an empty region");
  if (kind == MemoryKind::cuda && !context.devices().cuda) {
    return fail(Errc::unavailable, "this UCX knows no GPU memory");
  }
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                      UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE;
  params.address = memory.data();
  params.length = memory.size();
  params.memory_type = memory_type_of(kind);
  ucp_mem_h handle = nullptr;
  const ucs_status_t status = ucp_mem_map(context.handle(), &params, &handle);
  if (status != UCS_OK) {
    const bool argument = status == UCS_ERR_INVALID_PARAM || status == UCS_ERR_INVALID_ADDR;
    return fail(argument ? Errc::invalid_argument : Errc::out_of_capacity, "ucp_mem_map", status);
  }
  return handle;
}

Result<std::unique_ptr<Region>> UcxRegion::create(std::shared_ptr<UcxContext> context,
                                                  std::span<std::byte> memory, MemoryKind kind) {
  const Result<ucp_mem_h> handle = map_memory(*context, memory, kind);
  if (!handle) return fail(handle.error());
  return std::unique_ptr<Region>(new UcxRegion(std::move(context), memory, *handle));
}

UcxRegion::~UcxRegion() {
  ucp_mem_unmap(context_->handle(), handle_);
}

ucp_mem_h UcxRegion::handle_for(const Segment& segment, const UcxContext& context) noexcept {
  const auto* region = dynamic_cast<const UcxRegion*>(segment.region);
  if (region == nullptr || region->context_.get() != &context) return nullptr;
  const std::byte* begin = region->memory_.data();
  const bool inside =
      segment.data >= begin && segment.size <= region->memory_.size() &&
      static_cast<std::size_t>(segment.data - begin) <= region->memory_.size() - segment.size;
  return inside ? region->handle_ : nullptr;
}

}  // namespace membrain
