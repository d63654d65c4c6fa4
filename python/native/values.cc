#include "python/native/values.h"

#include <cstddef>
#include <span>
#include <utility>

namespace py = pybind11;

namespace membrain::python {

namespace {

BlockHash checked(std::span<const char> bytes) {
  const auto hash = BlockHash::from(std::as_bytes(bytes));
  if (!hash) throw py::value_error("a block hash has 1 to 32 bytes");
  return *hash;
}

}  // namespace

Answer answer(py::object value) {
  return py::make_tuple(std::move(value), 0, "");
}

Answer answer(const Error& why) {
  return py::make_tuple(py::none(), static_cast<int>(why.code), std::string(why.context));
}

BlockHash hash_of(const std::string& bytes) {
  return checked(bytes);
}

BlockHash parent_of(const std::string& bytes) {
  return bytes.empty() ? BlockHash{} : checked(bytes);
}

std::vector<BlockHash> hashes_of(const py::sequence& list) {
  PyObject* const fast = PySequence_Fast(list.ptr(), "hashes are a sequence of bytes");
  if (!fast) throw py::error_already_set();
  const py::object held = py::reinterpret_steal<py::object>(fast);
  PyObject** const items = PySequence_Fast_ITEMS(fast);
  std::vector<BlockHash> hashes(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast)));
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    char* bytes = nullptr;
    Py_ssize_t size = 0;
    if (PyBytes_AsStringAndSize(items[i], &bytes, &size) != 0) throw py::error_already_set();
    hashes[i] = checked({bytes, static_cast<std::size_t>(size)});
  }
  return hashes;
}

}  // namespace membrain::python
