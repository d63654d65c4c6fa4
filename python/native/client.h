// A Client for Python: operations by number, whose ends wake one descriptor.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "membrain/client.h"
#include "python/native/values.h"

namespace membrain::python {

/// Numbers of operations that have ended, and a descriptor (eventfd) that is readable while there
/// are any. Any thread.
class Ended {
 public:
  Ended();
  ~Ended();
  Ended(const Ended&) = delete;
  Ended& operator=(const Ended&) = delete;

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  void add(std::uint64_t number) noexcept;
  [[nodiscard]] std::vector<std::uint64_t> take() noexcept;

 private:
  int descriptor_;
  std::mutex mutex_;
  std::vector<std::uint64_t> numbers_;
};

/// Shared by Python objects that name the same match.
using SharedMatch = std::shared_ptr<Match>;
/// (block, part, offset, length, pieces); pieces are (address, bytes).
using Pieces = std::vector<std::pair<std::uintptr_t, std::size_t>>;
using FetchTuple = std::tuple<std::uint32_t, std::uint16_t, std::uint32_t, std::uint32_t, Pieces>;
/// (hash, parent, depth, part, priority, pieces)
using StoreTuple =
    std::tuple<std::string, std::string, std::uint32_t, std::uint16_t, std::uint8_t, Pieces>;

/// (ids, blocks of the match (empty: 0, 1, ...), part, first plane, planes (0: all))
using LayoutFetchTuple = std::tuple<std::vector<std::uint32_t>, std::vector<std::uint32_t>,
                                    std::uint16_t, std::uint32_t, std::uint32_t>;
/// (hashes, ids, parent, first depth, part, priority)
using LayoutStoreTuple = std::tuple<pybind11::sequence, std::vector<std::uint32_t>, std::string,
                                    std::uint32_t, std::uint16_t, std::uint8_t>;

/// On what terms a transfer runs.
struct Terms {
  std::uint32_t timeout_ms = 0;  ///< 0: the client's default
  int device = PieceMemory::kHost;
  std::uintptr_t after = 0;  ///< a recorded event of that GPU; 0: none

  [[nodiscard]] TransferOptions options() const;
};

/// A layout, checked: (base, stride, piece) of each plane, in bytes.
using PlaneTuple = std::tuple<std::uintptr_t, std::size_t, std::size_t>;
Answer register_layout(const std::vector<PlaneTuple>& planes, std::uint32_t blocks);

/// Threads  Any, with the GIL, which is released in every call that waits. To close waits for those
///          calls.
class NativeClient {
 public:
  static Answer open(const ClientConfig& config);
  explicit NativeClient(std::shared_ptr<Client> client) : client_(std::move(client)) {}
  ~NativeClient() { close(); }

  /// Drains and closes. What was under way ends.
  void close();
  /// In a child of a fork: forgets all without touching it.
  void abandon() noexcept;

  Answer contains(const OpenedNamespace& space, const pybind11::sequence& hashes,
                  std::uint16_t parts);
  Answer server_stats();

  /// Start an operation under a number of the caller's. With `notify`, `drain` yields it when it
  /// has ended; else `wait` does. `keep` lives until then.
  void open_namespace(std::uint64_t number, bool notify, const Namespace& space);
  void clear(std::uint64_t number, bool notify, const OpenedNamespace& space);
  void lookup(std::uint64_t number, bool notify, const OpenedNamespace& space,
              const pybind11::sequence& hashes, const LookupOptions& options);
  void grant(std::uint64_t number, bool notify, const SharedMatch& match, std::uint32_t valid_ms);
  void adopt(std::uint64_t number, bool notify, const std::string& grant);
  void fetch(std::uint64_t number, bool notify, const SharedMatch& match,
             const std::vector<FetchTuple>& items, const Terms& terms, pybind11::object keep);
  void store(std::uint64_t number, bool notify, const OpenedNamespace& space,
             const std::vector<StoreTuple>& items, const Terms& terms, pybind11::object keep);
  /// `into`: Buffers, of which the i-th is for `blocks[i]`, or for block i if there are none.
  void fetch_buffers(std::uint64_t number, bool notify, const SharedMatch& match,
                     pybind11::object into, const std::vector<std::uint32_t>& blocks,
                     std::uint16_t part, const Terms& terms);
  /// By the ids of a layout's blocks.
  void fetch_blocks(std::uint64_t number, bool notify, const SharedMatch& match,
                    const RegisteredLayout& into, const LayoutFetchTuple& blocks,
                    const Terms& terms, pybind11::object keep);
  void store_blocks(std::uint64_t number, bool notify, const OpenedNamespace& space,
                    const RegisteredLayout& from, const LayoutStoreTuple& blocks,
                    const Terms& terms, pybind11::object keep);
  /// Offers them for the background; `drain` yields the report. Raises nothing, begins nothing and
  /// returns the reason if the offer was shed or refused.
  Answer offer_blocks(std::uint64_t number, const OpenedNamespace& space,
                      const RegisteredLayout& from, const LayoutStoreTuple& blocks,
                      const Terms& terms, pybind11::object keep);
  Answer wait(std::uint64_t number);
  /// Takes an operation or an offer back.
  void cancel(std::uint64_t number) noexcept;
  /// Nobody wants the answer of what moves no bytes: it is dropped when it comes.
  void forget(std::uint64_t number) noexcept { pending_.erase(number); }
  /// Those that have ended: (number, answer).
  [[nodiscard]] std::vector<std::pair<std::uint64_t, Answer>> drain();
  [[nodiscard]] int descriptor() const noexcept { return ended_->descriptor(); }

 private:
  /// The data thread leaves the report before it tells of the end.
  struct Offer {
    std::uint64_t id = 0;
    std::shared_ptr<TransferReport> report;
  };
  struct Pending {
    std::variant<Operation<Match>, Operation<OpenedNamespace>, Operation<TransferReport>,
                 Operation<std::vector<std::byte>>, Offer>
        operation;
    pybind11::object keep;
  };

  /// Raises RuntimeError for one that was closed.
  [[nodiscard]] Client& client() const;
  /// `call(Client&)` without the GIL.
  template <class Call>
  auto waiting(Call call) const;
  template <class T>
  void begin(std::uint64_t number, bool notify, Operation<T> operation, pybind11::object keep);
  Answer finish(Pending pending);

  std::shared_ptr<Client> client_;   ///< null: closed
  mutable std::shared_mutex calls_;  ///< shared by those that use the client without the GIL
  std::shared_ptr<Ended> ended_ = std::make_shared<Ended>();
  std::unordered_map<std::uint64_t, Pending> pending_;
};

}  // namespace membrain::python
