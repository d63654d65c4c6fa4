// The public client: each call onto the loop that it belongs to.
#include "membrain/client.h"

#include <memory>
#include <utility>

#include "base/checksum.h"
#include "cache/client/client_runtime.h"
#include "cache/client/mapped_view.h"

namespace membrain {

using detail::Outcome;

Client::Client(std::unique_ptr<Runtime> runtime) noexcept : runtime_(std::move(runtime)) {}

Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::open(ClientConfig config) {
  Result<std::unique_ptr<Runtime>> runtime = Runtime::open(std::move(config));
  if (!runtime) return fail(runtime.error());
  return std::unique_ptr<Client>(new Client(std::move(*runtime)));
}

Operation<OpenedNamespace> Client::open_namespace_async(const Namespace& space,
                                                        ReplicaOptions replicas) {
  return runtime_->start(runtime_->control_loop, runtime_->core->open_namespace(space, replicas));
}

Result<OpenedNamespace> Client::open_namespace(const Namespace& space, ReplicaOptions replicas) {
  return open_namespace_async(space, replicas).wait();
}

Operation<Match> Client::lookup_async(const OpenedNamespace& space,
                                      std::span<const BlockHash> hashes,
                                      const LookupOptions& options) {
  return runtime_->start(runtime_->control_loop,
                         runtime_->core->lookup(space, {hashes.begin(), hashes.end()}, options));
}

Result<Match> Client::lookup(const OpenedNamespace& space, std::span<const BlockHash> hashes,
                             const LookupOptions& options) {
  return lookup_async(space, hashes, options).wait();
}

Result<std::vector<bool>> Client::contains(const OpenedNamespace& space,
                                           std::span<const BlockHash> hashes, std::uint16_t parts) {
  LookupOptions options;
  options.mode = LookupOptions::Mode::probe;
  options.rule = LookupOptions::Rule::all;
  options.parts = parts;
  const Result<Match> match = lookup(space, hashes, options);
  if (!match) return fail(match.error());
  std::vector<bool> there(hashes.size());
  for (std::size_t i = 0; i < there.size(); ++i) there[i] = match->has(i);
  return there;
}

Operation<std::vector<std::byte>> Client::grant_async(const Match& match,
                                                      std::chrono::milliseconds valid) {
  return runtime_->start(runtime_->control_loop, runtime_->core->grant(match.state(), valid));
}

Result<std::vector<std::byte>> Client::grant(const Match& match, std::chrono::milliseconds valid) {
  return grant_async(match, valid).wait();
}

Operation<Match> Client::adopt_async(std::span<const std::byte> grant) {
  return runtime_->start(runtime_->control_loop,
                         runtime_->core->adopt({grant.begin(), grant.end()}));
}

Result<Match> Client::adopt(std::span<const std::byte> grant) {
  return adopt_async(grant).wait();
}

Operation<TransferReport> Client::fetch_async(const Match& match, std::span<const FetchItem> items,
                                              TransferOptions options) {
  return runtime_->fetch_async(match, FetchList(items), std::move(options));
}

Result<TransferReport> Client::fetch(const Match& match, std::span<const FetchItem> items,
                                     TransferOptions options) {
  return runtime_->fetch(match, FetchList(items), std::move(options));
}

Result<std::vector<View>> Client::fetch_view(const Match& match,
                                             std::span<const FetchItem> items) const {
  if (!match.state()) return fail(Errc::invalid_argument, "a match of nothing");
  const std::shared_ptr<const ArenaSet> arenas = runtime_->core->arenas();
  if (!arenas) return fail(Errc::unavailable, "no node of this host is mapped");
  return view_mapped(*match.state(), items, *arenas, runtime_->core->config().verify_checksums);
}

Operation<TransferReport> Client::store_async(const OpenedNamespace& space,
                                              std::span<const StoreItem> items,
                                              TransferOptions options) {
  auto cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> work = runtime_->core->store(
      space, std::vector<StoreItem>(items.begin(), items.end()), std::move(options), cancel);
  return Operation<TransferReport>(runtime_->run_transfer(std::move(work), std::move(cancel)));
}

Result<TransferReport> Client::store(const OpenedNamespace& space, std::span<const StoreItem> items,
                                     TransferOptions options) {
  return store_async(space, items, std::move(options)).wait();
}

Result<std::vector<Reservation>> Client::reserve(const OpenedNamespace& space,
                                                 std::span<const ReserveItem> items,
                                                 std::chrono::milliseconds valid) {
  return runtime_->run(runtime_->data_loop(),
                       runtime_->core->reserve(space, {items.begin(), items.end()}, valid));
}

Result<TransferReport> Client::seal(std::vector<Reservation> written,
                                    std::chrono::milliseconds timeout) {
  std::vector<WrittenBlock> blocks(written.size());
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (written[i].granted()) blocks[i].checksum = checksum(written[i].bytes());
    blocks[i].slot = written[i].take();
  }
  return runtime_->run(runtime_->data_loop(), runtime_->core->seal(std::move(blocks), timeout));
}

Result<std::uint64_t> Client::offer(const OpenedNamespace& space, std::vector<StoreItem> items,
                                    std::function<void(const TransferReport&)> done,
                                    PieceMemory memory) {
  return runtime_->offer(space, StoreList(std::move(items)), std::move(done), memory);
}

Result<std::uint64_t> Client::offer(const OpenedNamespace& space, const RegisteredLayout& from,
                                    const LayoutStore& blocks,
                                    std::function<void(const TransferReport&)> done,
                                    PieceMemory memory) {
  Result<StoreList> list = StoreList::of(from, blocks);
  if (!list) return fail(list.error());
  return runtime_->offer(space, std::move(*list), std::move(done), memory);
}

void Client::withdraw(std::uint64_t offer) {
  BackgroundStore& background = runtime_->core->background();
  // An inbox that is full loses the wish: the offer ends like any other.
  [[maybe_unused]] const Result<> posted =
      runtime_->data_loop().inbox().post([&background, offer] { background.withdraw(offer); });
}

BackgroundStats Client::background_stats() const {
  return runtime_->core->background().stats();
}

Result<RegisteredLayout> Client::register_layout(const Layout& layout) {
  const Result<std::shared_ptr<const LayoutGeometry>> geometry = LayoutGeometry::check(layout);
  if (!geometry) return fail(geometry.error());
  return RegisteredLayout(*geometry);
}

Operation<TransferReport> Client::fetch_async(const Match& match, const RegisteredLayout& into,
                                              const LayoutFetch& fetch, TransferOptions options) {
  Result<FetchList> list = FetchList::of(into, fetch);
  if (!list) return runtime_->refused(list.error());
  return runtime_->fetch_async(match, std::move(*list), std::move(options));
}

Result<TransferReport> Client::fetch(const Match& match, const RegisteredLayout& into,
                                     const LayoutFetch& fetch, TransferOptions options) {
  Result<FetchList> list = FetchList::of(into, fetch);
  if (!list) return fail(list.error());
  return runtime_->fetch(match, std::move(*list), std::move(options));
}

Operation<TransferReport> Client::store_async(const OpenedNamespace& space,
                                              const RegisteredLayout& from,
                                              const LayoutStore& blocks, TransferOptions options) {
  Result<StoreList> list = StoreList::of(from, blocks);
  if (!list) return runtime_->refused(list.error());
  auto cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> work =
      runtime_->core->store(space, std::move(*list), std::move(options), cancel);
  return Operation<TransferReport>(runtime_->run_transfer(std::move(work), std::move(cancel)));
}

Result<TransferReport> Client::store(const OpenedNamespace& space, const RegisteredLayout& from,
                                     const LayoutStore& blocks, TransferOptions options) {
  return store_async(space, from, blocks, std::move(options)).wait();
}

Operation<TransferReport> Client::share_async(const OpenedNamespace& space,
                                              const RegisteredLayout& from,
                                              const LayoutStore& blocks, TransferOptions options) {
  Result<StoreList> list = StoreList::of(from, blocks);
  if (!list) return runtime_->refused(list.error());
  return runtime_->share(space, std::move(*list), std::move(options));
}

Result<TransferReport> Client::share(const OpenedNamespace& space, const RegisteredLayout& from,
                                     const LayoutStore& blocks, TransferOptions options) {
  return share_async(space, from, blocks, std::move(options)).wait();
}

Result<> Client::unshare(const RegisteredLayout& from, std::span<const std::uint32_t> ids) {
  return runtime_->unshare(from.geometry(), {ids.begin(), ids.end()});
}

Operation<OpenedNamespace> Client::clear_async(const OpenedNamespace& space) {
  return runtime_->start(runtime_->control_loop, runtime_->core->clear(space));
}

Result<OpenedNamespace> Client::clear(const OpenedNamespace& space) {
  return clear_async(space).wait();
}

Result<std::map<std::string, std::uint64_t>> Client::server_stats() {
  return runtime_->run(runtime_->control_loop, runtime_->core->server_stats());
}

bool Client::poll() {
  return runtime_->caller_drives && runtime_->control_loop.turn();
}

}  // namespace membrain
