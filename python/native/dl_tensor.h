// Memory of an array library that hands it over as DLPack does.
#pragma once

#include <dlpack/dlpack.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>

namespace membrain::python {

/// The bytes of a tensor, from the capsule that its `__dlpack__` yields: contiguous, and not freed
/// while this lives. The protocol is that of DLPack 0.6 (unversioned capsules named "dltensor").
///
/// Threads  With the GIL.
class DlTensor {
 public:
  /// Takes the tensor out of the capsule. Raises ValueError for one that was taken before, or whose
  /// elements do not lie side by side.
  explicit DlTensor(const pybind11::capsule& capsule);
  ~DlTensor();
  DlTensor(const DlTensor&) = delete;
  DlTensor& operator=(const DlTensor&) = delete;

  [[nodiscard]] std::uintptr_t address() const noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }
  [[nodiscard]] int device_type() const noexcept { return tensor_->dl_tensor.device.device_type; }
  [[nodiscard]] int device() const noexcept { return tensor_->dl_tensor.device.device_id; }

 private:
  DLManagedTensor* tensor_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace membrain::python
