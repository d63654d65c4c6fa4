# Writes kernel_image.cc (TO), which holds the text of a PTX file (FROM).
file(READ ${FROM} text)
file(WRITE ${TO} "// Generated from kernels.cu.
#include \"transport/cuda/kernel_image.h\"

namespace membrain::cuda {

std::string_view kernel_image() noexcept {
  return R\"ptx(${text})ptx\";
}

}  // namespace membrain::cuda
")
