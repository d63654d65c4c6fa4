// What calls take and yield, between C++ and Python.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "membrain/block.h"
#include "membrain/result.h"

namespace membrain::python {

/// What a call yields: a value, or the reason why there is none: (value, 0, "") or (None, the
/// number of an Errc, words). Python makes the exception.
using Answer = pybind11::tuple;

Answer answer(pybind11::object value);
Answer answer(const Error& why);

/// Raises ValueError for bytes that are no hash, TypeError for what is no bytes.
std::vector<BlockHash> hashes_of(const pybind11::sequence& list);
BlockHash hash_of(const std::string& bytes);
/// An empty one stands for "no block".
BlockHash parent_of(const std::string& bytes);

}  // namespace membrain::python
