// The blocks of an engine's own cache, for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace membrain::python {

void define_engine(pybind11::module_& module);

}  // namespace membrain::python
