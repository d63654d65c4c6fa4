// The module membrain._native: what the Python package is made of.
#include <pybind11/chrono.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "python/native/buffer.h"
#include "python/native/client.h"
#include "python/native/dl_tensor.h"
#include "python/native/engine.h"

namespace py = pybind11;
using namespace py::literals;

namespace membrain::python {

namespace {

void define_values(py::module_& module) {
  py::class_<ClientConfig>(module, "ClientConfig")
      .def(py::init<>())
      .def_readwrite("server", &ClientConfig::server)
      .def_readwrite("secret", &ClientConfig::secret)
      .def_readwrite("tenant", &ClientConfig::tenant)
      .def_readwrite("label", &ClientConfig::label)
      .def_readwrite("connect_timeout", &ClientConfig::connect_timeout)
      .def_readwrite("default_timeout", &ClientConfig::default_timeout)
      .def_readwrite("verify_checksums", &ClientConfig::verify_checksums)
      .def_readwrite("mapped", &ClientConfig::mapped)
      .def_readwrite("one_sided_reads", &ClientConfig::one_sided_reads)
      .def_readwrite("copy_threads", &ClientConfig::copy_threads)
      .def_readwrite("fetch_window_blocks", &ClientConfig::fetch_window_blocks)
      .def_readwrite("probe_store_bytes", &ClientConfig::probe_store_bytes)
      .def_readwrite("background_store_bytes", &ClientConfig::background_store_bytes)
      .def_readwrite("devices", &ClientConfig::devices)
      .def_readwrite("staging_slots", &ClientConfig::staging_slots)
      .def_readwrite("staging_slot_bytes", &ClientConfig::staging_slot_bytes)
      .def_readwrite("pin_arenas", &ClientConfig::pin_arenas);
  py::class_<Namespace>(module, "Namespace")
      .def(py::init<>())
      .def_readwrite("model", &Namespace::model)
      .def_readwrite("revision", &Namespace::revision)
      .def_readwrite("weights_version", &Namespace::weights_version)
      .def_readwrite("kv_dtype", &Namespace::kv_dtype)
      .def_readwrite("block_tokens", &Namespace::block_tokens)
      .def_readwrite("layout", &Namespace::layout)
      .def_readwrite("part_count", &Namespace::part_count)
      .def_readwrite("kv_group", &Namespace::kv_group)
      .def_readwrite("hash_algorithm", &Namespace::hash_algorithm)
      .def_readwrite("hash_seed_fingerprint", &Namespace::hash_seed_fingerprint);
  py::class_<OpenedNamespace>(module, "OpenedNamespace")
      .def_readonly("id", &OpenedNamespace::id)
      .def_readonly("era", &OpenedNamespace::era)
      .def_readonly("other_seed", &OpenedNamespace::other_seed);
  using Mode = LookupOptions::Mode;
  using Rule = LookupOptions::Rule;
  py::class_<LookupOptions>(module, "LookupOptions")
      .def(py::init([](bool pin, int rule, std::uint32_t window, std::uint16_t parts,
                       std::uint32_t timeout_ms) {
             LookupOptions options;
             options.mode = pin ? Mode::pin : Mode::probe;
             options.rule = rule == 0 ? Rule::prefix : rule == 1 ? Rule::window : Rule::all;
             options.window_blocks = window;
             options.parts = parts;
             options.timeout = std::chrono::milliseconds(timeout_ms);
             return options;
           }),
           "pin"_a, "rule"_a, "window_blocks"_a, "parts"_a, "timeout_ms"_a);
}

void define_transfers(py::module_& module) {
  py::class_<Terms>(module, "Terms")
      .def(py::init([](std::uint32_t timeout_ms, int device, std::uintptr_t after) {
             return Terms{timeout_ms, device, after};
           }),
           "timeout_ms"_a, "device"_a, "after"_a);
  py::class_<RegisteredLayout>(module, "RegisteredLayout")
      .def_property_readonly("block_count", &RegisteredLayout::block_count)
      .def_property_readonly("plane_count", &RegisteredLayout::plane_count)
      .def_property_readonly("block_bytes", &RegisteredLayout::block_bytes);
  module.def("register_layout", &register_layout, "planes"_a, "blocks"_a);
}

void define_match(py::module_& module) {
  py::class_<Match, std::shared_ptr<Match>>(module, "Match")
      .def_property_readonly("block_count", &Match::block_count)
      .def_property_readonly("prefix_blocks", &Match::prefix_blocks)
      .def_property_readonly("pinned", &Match::pinned)
      .def("has", &Match::has, "block"_a)
      .def("answered", &Match::answered, "block"_a)
      .def("part_bytes", &Match::part_bytes, "block"_a, "part"_a = 0)
      .def("release", &Match::release);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.attr("ERRORS") = [] {
    py::dict names;
    for (int code = 1; code <= static_cast<int>(Errc::cancelled); ++code) {
      names[py::int_(code)] = std::string(to_string(static_cast<Errc>(code)));
    }
    return names;
  }();
  define_values(module);
  define_match(module);
  define_transfers(module);
  define_engine(module);
  py::class_<Buffers>(module, "Buffers")
      .def(py::init<const py::sequence&, bool>(), "objects"_a, "writable"_a);
  py::class_<Buffer>(module, "Buffer")
      .def(py::init<const py::object&, bool>(), "object"_a, "writable"_a)
      .def_property_readonly("address", &Buffer::address)
      .def_property_readonly("size", &Buffer::size);
  py::class_<DlTensor>(module, "DlTensor")
      .def(py::init<const py::capsule&>(), "capsule"_a)
      .def_property_readonly("address", &DlTensor::address)
      .def_property_readonly("size", &DlTensor::size)
      .def_property_readonly("device_type", &DlTensor::device_type)
      .def_property_readonly("device", &DlTensor::device);
  py::class_<NativeClient>(module, "NativeClient")
      .def("close", &NativeClient::close)
      .def("abandon", &NativeClient::abandon)
      .def("open_namespace", &NativeClient::open_namespace)
      .def("clear", &NativeClient::clear)
      .def("contains", &NativeClient::contains)
      .def("server_stats", &NativeClient::server_stats)
      .def("lookup", &NativeClient::lookup)
      .def("grant", &NativeClient::grant)
      .def("adopt", &NativeClient::adopt)
      .def("fetch", &NativeClient::fetch)
      .def("store", &NativeClient::store)
      .def("fetch_buffers", &NativeClient::fetch_buffers)
      .def("fetch_blocks", &NativeClient::fetch_blocks)
      .def("store_blocks", &NativeClient::store_blocks)
      .def("offer_blocks", &NativeClient::offer_blocks)
      .def("wait", &NativeClient::wait)
      .def("cancel", &NativeClient::cancel)
      .def("forget", &NativeClient::forget)
      .def("drain", &NativeClient::drain)
      .def_property_readonly("descriptor", &NativeClient::descriptor);
  module.def("open", &NativeClient::open, "config"_a);
}

}  // namespace membrain::python
