#include "python/native/buffer.h"

namespace membrain::python {

Buffer::Buffer(const pybind11::object& object, bool writable) {
  const int flags = PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) throw pybind11::error_already_set();
}

}  // namespace membrain::python
