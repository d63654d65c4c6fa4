#include "python/native/dl_tensor.h"

#include <stdexcept>
#include <string_view>

namespace membrain::python {

namespace {

constexpr const char* kFresh = "dltensor";
constexpr const char* kTaken = "used_dltensor";

/// Whether the elements lie in C's order without gaps.
bool contiguous(const DLTensor& tensor) {
  if (!tensor.strides) return true;
  std::int64_t expected = 1;
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    if (tensor.shape[axis] != 1 && tensor.strides[axis] != expected) return false;
    expected *= tensor.shape[axis];
  }
  return true;
}

std::size_t bytes_of(const DLTensor& tensor) {
  std::size_t count = 1;
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    count *= static_cast<std::size_t>(tensor.shape[axis]);
  }
  return count * ((std::size_t{tensor.dtype.bits} * tensor.dtype.lanes + 7) / 8);
}

}  // namespace

DlTensor::DlTensor(const pybind11::capsule& capsule) {
  if (std::string_view(capsule.name()) != kFresh) {
    throw pybind11::value_error("its DLPack capsule was used, or is of a version not known here");
  }
  auto* tensor = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kFresh));
  if (!tensor) throw pybind11::error_already_set();
  if (!contiguous(tensor->dl_tensor)) throw pybind11::value_error("it is not contiguous");
  bytes_ = bytes_of(tensor->dl_tensor);
  if (PyCapsule_SetName(capsule.ptr(), kTaken) != 0) throw pybind11::error_already_set();
  tensor_ = tensor;  // from here on it is ours to delete
}

DlTensor::~DlTensor() {
  if (tensor_->deleter) tensor_->deleter(tensor_);
}

std::uintptr_t DlTensor::address() const noexcept {
  return reinterpret_cast<std::uintptr_t>(tensor_->dl_tensor.data) + tensor_->dl_tensor.byte_offset;
}

}  // namespace membrain::python
