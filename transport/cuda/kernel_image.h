// Our GPU kernels, compiled.
#pragma once

#include <string_view>

namespace membrain::cuda {

/// PTX for compute capability 7.0 and later, which the driver compiles for the GPU at hand.
/// Zero-terminated; empty in a build without clang. Static storage.
[[nodiscard]] std::string_view kernel_image() noexcept;

}  // namespace membrain::cuda
