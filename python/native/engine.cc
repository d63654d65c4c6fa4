#include "python/native/engine.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "membrain/kv_cache_manager.h"
#include "python/native/values.h"

namespace py = pybind11;
using namespace py::literals;

namespace membrain::python {

namespace {

Answer create(std::uint32_t blocks) {
  Result<KvCacheManager> made = KvCacheManager::create(blocks);
  return made ? answer(py::cast(std::move(*made))) : answer(made.error());
}

py::tuple computed_blocks(const KvCacheManager& at, const py::sequence& hashes,
                          std::size_t remote) {
  const ComputedBlocks found = at.computed_blocks(hashes_of(hashes), remote);
  return py::make_tuple(found.local, found.remote);
}

Answer allocate(KvCacheManager& at, std::uint64_t request, const py::sequence& hashes,
                std::size_t count) {
  const Result<std::size_t> shared = at.allocate(RequestId{request}, hashes_of(hashes), count);
  return shared ? answer(py::cast(*shared)) : answer(shared.error());
}

Answer publish(KvCacheManager& at, std::uint64_t request, const py::sequence& hashes) {
  const Result<> done = at.publish(RequestId{request}, hashes_of(hashes));
  return done ? answer(py::none()) : answer(done.error());
}

Answer free_request(KvCacheManager& at, std::uint64_t request) {
  const Result<> done = at.free(RequestId{request});
  return done ? answer(py::none()) : answer(done.error());
}

std::vector<std::uint32_t> blocks_of(const KvCacheManager& at, std::uint64_t request) {
  const std::span<const std::uint32_t> blocks = at.blocks_of(RequestId{request});
  return {blocks.begin(), blocks.end()};
}

py::dict use(const KvCacheManager& at) {
  const KvCacheUse use = at.use();
  return py::dict("blocks"_a = use.blocks, "used_blocks"_a = use.used_blocks,
                  "named_blocks"_a = use.named_blocks, "requests"_a = use.requests,
                  "reused"_a = use.reused);
}

}  // namespace

void define_engine(py::module_& module) {
  py::class_<KvCacheManager>(module, "KvCacheManager")
      .def("computed_blocks", &computed_blocks, "hashes"_a, "remote"_a = 0)
      .def("allocate", &allocate, "request"_a, "hashes"_a, "count"_a)
      .def("publish", &publish, "request"_a, "hashes"_a)
      .def("free", &free_request, "request"_a)
      .def("forget", &KvCacheManager::forget)
      .def("blocks_of", &blocks_of, "request"_a)
      .def("refcount", &KvCacheManager::refcount, "block"_a)
      .def("use", &use);
  module.def("kv_cache_manager", &create, "blocks"_a);
}

}  // namespace membrain::python
