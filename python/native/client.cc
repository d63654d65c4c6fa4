#include "python/native/client.h"

#include <pybind11/stl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <stdexcept>
#include <system_error>
#include <type_traits>

#include "python/native/buffer.h"

namespace py = pybind11;

namespace membrain::python {

namespace {

/// Of `hashes`, which outlive it as `blocks` does.
LayoutStore layout_store(const LayoutStoreTuple& blocks, const std::vector<BlockHash>& hashes) {
  LayoutStore store;
  store.hashes = hashes;
  store.ids = std::get<1>(blocks);
  store.parent = parent_of(std::get<2>(blocks));
  store.first_depth = std::get<3>(blocks);
  store.part = std::get<4>(blocks);
  store.priority = std::get<5>(blocks);
  return store;
}

/// ([(ok, duplicate, why)], bytes, {lane: bytes})
py::object value_of(const TransferReport& report) {
  py::list items(report.items.size());
  for (std::size_t i = 0; i < report.items.size(); ++i) {
    const ItemOutcome& item = report.items[i];
    items[i] = py::make_tuple(item.ok, item.duplicate, item.ok ? 0 : static_cast<int>(item.why));
  }
  return py::make_tuple(items, report.bytes, report.lane_bytes);
}

py::object value_of(const std::vector<std::byte>& bytes) {
  return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

py::object value_of(const OpenedNamespace& space) {
  return py::cast(space);
}

py::object value_of(Match match) {
  return py::cast(std::make_shared<Match>(std::move(match)));
}

}  // namespace

TransferOptions Terms::options() const {
  TransferOptions options;
  options.timeout = std::chrono::milliseconds(timeout_ms);
  options.memory.device = device;
  options.memory.after = reinterpret_cast<void*>(after);
  return options;
}

Answer register_layout(const std::vector<PlaneTuple>& planes, std::uint32_t blocks) {
  Layout layout;
  layout.blocks = blocks;
  for (const auto& [base, stride, piece] : planes) {
    layout.planes.push_back({reinterpret_cast<void*>(base), stride, piece});
  }
  Result<RegisteredLayout> made = Client::register_layout(layout);
  return made ? answer(py::cast(std::move(*made))) : answer(made.error());
}

// ---- what has ended

Ended::Ended() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Ended::~Ended() {
  ::close(descriptor_);
}

void Ended::add(std::uint64_t number) noexcept {
  {
    const std::lock_guard lock(mutex_);
    numbers_.push_back(number);
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(descriptor_, &one, sizeof one);
}

std::vector<std::uint64_t> Ended::take() noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(descriptor_, &count, sizeof count);
  const std::lock_guard lock(mutex_);
  return std::exchange(numbers_, {});
}

// ---- calls that wait

Answer NativeClient::open(const ClientConfig& config) {
  Result<std::unique_ptr<Client>> client = [&config] {
    const py::gil_scoped_release released;
    return Client::open(config);
  }();
  if (!client) return answer(client.error());
  return answer(
      py::cast(std::make_unique<NativeClient>(std::shared_ptr<Client>(std::move(*client)))));
}

void NativeClient::close() {
  std::shared_ptr<Client> client = std::move(client_);
  if (!client) return;
  const py::gil_scoped_release released;
  const std::unique_lock alone(calls_);
  client.reset();  // ends what is under way: `drain` and `wait` yield it
}

void NativeClient::abandon() noexcept {
  static_cast<void>(new std::shared_ptr<Client>(std::move(client_)));
  for (auto& [number, pending] : pending_) static_cast<void>(pending.keep.release());
  static_cast<void>(new std::shared_ptr<Ended>(ended_));
}

Client& NativeClient::client() const {
  if (!client_) throw std::runtime_error("this client was closed");
  return *client_;
}

template <class Call>
auto NativeClient::waiting(Call call) const {
  Client& open = client();
  const std::shared_lock held(calls_);  // at once: nobody closes before the client is taken away
  const py::gil_scoped_release released;
  return call(open);
}

Answer NativeClient::contains(const OpenedNamespace& space, const py::sequence& hashes,
                              std::uint16_t parts) {
  const std::vector<BlockHash> wanted = hashes_of(hashes);
  const auto there = waiting([&](Client& at) { return at.contains(space, wanted, parts); });
  return there ? answer(py::cast(*there)) : answer(there.error());
}

Answer NativeClient::server_stats() {
  const auto stats = waiting([](Client& at) { return at.server_stats(); });
  return stats ? answer(py::cast(*stats)) : answer(stats.error());
}

// ---- operations

template <class T>
void NativeClient::begin(std::uint64_t number, bool notify, Operation<T> operation,
                         py::object keep) {
  const auto [at, fresh] =
      pending_.try_emplace(number, Pending{std::move(operation), std::move(keep)});
  if (!fresh) throw py::value_error("an operation of that number is under way");
  if (!notify) return;
  std::get<Operation<T>>(at->second.operation).on_done([ended = ended_, number] {
    ended->add(number);
  });
}

void NativeClient::open_namespace(std::uint64_t number, bool notify, const Namespace& space) {
  begin(number, notify, client().open_namespace_async(space), py::none());
}

void NativeClient::clear(std::uint64_t number, bool notify, const OpenedNamespace& space) {
  begin(number, notify, client().clear_async(space), py::none());
}

void NativeClient::lookup(std::uint64_t number, bool notify, const OpenedNamespace& space,
                          const py::sequence& hashes, const LookupOptions& options) {
  const std::vector<BlockHash> wanted = hashes_of(hashes);
  begin(number, notify, client().lookup_async(space, wanted, options), py::none());
}

void NativeClient::grant(std::uint64_t number, bool notify, const SharedMatch& match,
                         std::uint32_t valid_ms) {
  begin(number, notify, client().grant_async(*match, std::chrono::milliseconds(valid_ms)),
        py::cast(match));
}

void NativeClient::adopt(std::uint64_t number, bool notify, const std::string& grant) {
  begin(number, notify, client().adopt_async(std::as_bytes(std::span(grant))), py::none());
}

void NativeClient::fetch(std::uint64_t number, bool notify, const SharedMatch& match,
                         const std::vector<FetchTuple>& items, const Terms& terms,
                         py::object keep) {
  std::vector<FetchItem> wanted;
  wanted.reserve(items.size());
  for (const auto& [block, part, offset, length, pieces] : items) {
    FetchItem& item = wanted.emplace_back(FetchItem{block, part, offset, length, {}});
    for (const auto& [address, bytes] : pieces) {
      item.into.push_back({reinterpret_cast<void*>(address), bytes});
    }
  }
  // The match must outlive it.
  begin(number, notify, client().fetch_async(*match, wanted, terms.options()),
        py::make_tuple(std::move(keep), match));
}

void NativeClient::fetch_buffers(std::uint64_t number, bool notify, const SharedMatch& match,
                                 py::object into, const std::vector<std::uint32_t>& blocks,
                                 std::uint16_t part, const Terms& terms) {
  const std::deque<Buffer>& buffers = into.cast<const Buffers&>().all();
  if (!blocks.empty() && blocks.size() != buffers.size()) {
    throw py::value_error("as many blocks as buffers");
  }
  std::vector<FetchItem> wanted(buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].size() > std::numeric_limits<std::uint32_t>::max()) {
      throw py::value_error("a buffer of 4 GiB or more");
    }
    wanted[i].block = blocks.empty() ? static_cast<std::uint32_t>(i) : blocks[i];
    wanted[i].part = part;
    wanted[i].length = static_cast<std::uint32_t>(buffers[i].size());
    wanted[i].into = {{reinterpret_cast<void*>(buffers[i].address()), buffers[i].size()}};
  }
  begin(number, notify, client().fetch_async(*match, wanted, terms.options()),
        py::make_tuple(std::move(into), match));
}

void NativeClient::store(std::uint64_t number, bool notify, const OpenedNamespace& space,
                         const std::vector<StoreTuple>& items, const Terms& terms,
                         py::object keep) {
  std::vector<StoreItem> blocks;
  blocks.reserve(items.size());
  for (const auto& [hash, parent, depth, part, priority, pieces] : items) {
    StoreItem& item =
        blocks.emplace_back(StoreItem{hash_of(hash), parent_of(parent), depth, part, priority, {}});
    for (const auto& [address, bytes] : pieces) {
      item.from.push_back({reinterpret_cast<const void*>(address), bytes});
    }
  }
  begin(number, notify, client().store_async(space, blocks, terms.options()), std::move(keep));
}

void NativeClient::fetch_blocks(std::uint64_t number, bool notify, const SharedMatch& match,
                                const RegisteredLayout& into, const LayoutFetchTuple& blocks,
                                const Terms& terms, py::object keep) {
  const auto& [ids, wanted, part, first_plane, planes] = blocks;
  LayoutFetch fetch;
  fetch.ids = ids;
  fetch.blocks = wanted;
  fetch.part = part;
  fetch.first_plane = first_plane;
  fetch.plane_count = planes;
  begin(number, notify, client().fetch_async(*match, into, fetch, terms.options()),
        py::make_tuple(std::move(keep), match));
}

void NativeClient::store_blocks(std::uint64_t number, bool notify, const OpenedNamespace& space,
                                const RegisteredLayout& from, const LayoutStoreTuple& blocks,
                                const Terms& terms, py::object keep) {
  const std::vector<BlockHash> hashes = hashes_of(std::get<0>(blocks));
  begin(number, notify,
        client().store_async(space, from, layout_store(blocks, hashes), terms.options()),
        std::move(keep));
}

Answer NativeClient::offer_blocks(std::uint64_t number, const OpenedNamespace& space,
                                  const RegisteredLayout& from, const LayoutStoreTuple& blocks,
                                  const Terms& terms, py::object keep) {
  const std::vector<BlockHash> hashes = hashes_of(std::get<0>(blocks));
  auto report = std::make_shared<TransferReport>();
  const auto done = [ended = ended_, report, number](const TransferReport& told) {
    *report = told;
    ended->add(number);
  };
  const Result<std::uint64_t> offered =
      client().offer(space, from, layout_store(blocks, hashes), done, terms.options().memory);
  if (!offered) return answer(offered.error());
  pending_.try_emplace(number, Pending{Offer{*offered, std::move(report)}, std::move(keep)});
  return answer(py::none());
}

Answer NativeClient::finish(Pending pending) {
  return std::visit(
      [](auto& operation) {
        if constexpr (std::is_same_v<std::decay_t<decltype(operation)>, Offer>) {
          return answer(value_of(*operation.report));
        } else {
          auto result = [&operation] {
            const py::gil_scoped_release released;
            return operation.wait();
          }();
          return result ? answer(value_of(std::move(*result))) : answer(result.error());
        }
      },
      pending.operation);
}

Answer NativeClient::wait(std::uint64_t number) {
  auto node = pending_.extract(number);
  if (node.empty()) throw py::key_error("no operation of that number");
  return finish(std::move(node.mapped()));
}

void NativeClient::cancel(std::uint64_t number) noexcept {
  const auto found = pending_.find(number);
  if (found == pending_.end()) return;
  std::visit(
      [this](auto& operation) {
        if constexpr (std::is_same_v<std::decay_t<decltype(operation)>, Offer>) {
          if (client_) client_->withdraw(operation.id);
        } else {
          operation.cancel();
        }
      },
      found->second.operation);
}

std::vector<std::pair<std::uint64_t, Answer>> NativeClient::drain() {
  std::vector<std::pair<std::uint64_t, Answer>> answers;
  for (const std::uint64_t number : ended_->take()) {
    auto node = pending_.extract(number);
    if (!node.empty()) answers.emplace_back(number, finish(std::move(node.mapped())));
  }
  return answers;
}

}  // namespace membrain::python
