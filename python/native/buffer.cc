#include "python/native/buffer.h"

namespace membrain::python {

Buffer::Buffer(const pybind11::object& object, bool writable) {
  const int flags = PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) throw pybind11::error_already_set();
}

Buffers::Buffers(const pybind11::sequence& objects, bool writable) {
  for (const pybind11::handle object : objects) {
    all_.emplace_back(pybind11::reinterpret_borrow<pybind11::object>(object), writable);
    if (all_.back().size() == 0) throw pybind11::value_error("an empty buffer");
  }
}

}  // namespace membrain::python
