// Memory of Python objects, held still while an operation uses it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <deque>

namespace membrain::python {

/// The bytes of an object with the buffer protocol: contiguous, and not resized or freed while this
/// lives.
///
/// Threads  With the GIL.
class Buffer {
 public:
  /// Raises BufferError for memory that is not contiguous, or not writable though that is wanted.
  Buffer(const pybind11::object& object, bool writable);
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  [[nodiscard]] std::uintptr_t address() const noexcept {
    return reinterpret_cast<std::uintptr_t>(view_.buf);
  }
  [[nodiscard]] std::size_t size() const noexcept { return static_cast<std::size_t>(view_.len); }

 private:
  Py_buffer view_{};
};

/// The same of many objects, in one step: what a fetch costs besides its bytes is mostly this
/// (docs/performance.md, Python).
class Buffers {
 public:
  /// Raises TypeError if one has no buffer protocol, ValueError if one is empty.
  Buffers(const pybind11::sequence& objects, bool writable);

  [[nodiscard]] const std::deque<Buffer>& all() const noexcept { return all_; }

 private:
  std::deque<Buffer> all_;
};

}  // namespace membrain::python
