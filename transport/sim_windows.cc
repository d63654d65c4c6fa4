#include "transport/sim_windows.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "transport/sim_wires.h"

namespace membrain {

namespace {

constexpr std::uint64_t kMagic = 0x776f646e69576d53;
constexpr Duration kLook = std::chrono::milliseconds(5);  ///< at a partition

struct Ticket {
  std::uint64_t magic = kMagic;
  std::uint64_t number = 0;
};

}  // namespace

/// One opened window, entered.
class SimRemoteWindow final : public RemoteWindow {
 public:
  SimRemoteWindow(SimWindows& windows, std::uint64_t number, std::uint64_t size)
      : windows_(windows), number_(number), size_(size), quiet_(windows.loop_.ready()) {}
  ~SimRemoteWindow() override {
    check(closed_, "a RemoteWindow was destroyed before it was closed");
  }
  SimRemoteWindow(const SimRemoteWindow&) = delete;
  SimRemoteWindow& operator=(const SimRemoteWindow&) = delete;

  [[nodiscard]] std::uint64_t size_bytes() const noexcept override { return size_; }
  [[nodiscard]] bool usable() const noexcept override { return !failed_ && !closed_; }

  void read(std::uint64_t offset, std::span<const Segment> into, Completion& done) override {
    std::uint64_t bytes = 0;
    for (const Segment& segment : into) bytes += segment.size;
    if (offset > size_ || bytes > size_ - offset) {
      return done.finish(fail(Errc::invalid_argument, "a read outside the window"));
    }
    if (!usable()) return done.finish(fail(Errc::peer_lost, "the window is closed"));
    quiet_.expect();
    windows_.loop_.spawn(run(offset, bytes, {into.begin(), into.end()}, done));
  }

  Task<> close() override {
    closed_ = true;
    quiet_.finish({});
    const Result<> quiet = co_await quiet_;
    check(quiet.has_value(), "closing cannot fail");
  }

 private:
  using Opened = SimNetwork::OpenedWindow;

  /// Null once its owner is gone.
  [[nodiscard]] const Opened* opened() const {
    const auto found = windows_.network_.opened_.find(number_);
    return found == windows_.network_.opened_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] bool stands_still() const {
    const Opened* const at = opened();
    if (at == nullptr) return false;
    const SimNetwork& network = windows_.network_;
    return network.blocked(windows_.process_, at->process) ||
           network.blocked(at->process, windows_.process_);
  }

  Task<> run(std::uint64_t offset, std::uint64_t bytes, std::vector<Segment> into,
             Completion& done) {
    SimNetwork& network = windows_.network_;
    Loop& loop = windows_.loop_;
    const Opened* const first = opened();
    const std::uint32_t owner = first == nullptr ? windows_.process_ : first->process;
    const Duration half_time = network.time_to_move(bytes) / 2;
    const TimePoint patience = loop.now() + network.faults_.partition_notice;
    Duration next = network.delay(windows_.process_, owner) + half_time;
    Result<> outcome;
    for (int half = 0; half < 2 && outcome; ++half) {
      co_await loop.sleep_until(loop.now() + next);
      while (stands_still() && !closed_ && loop.now() < patience) {
        co_await loop.sleep_until(loop.now() + kLook);
      }
      const Opened* const at = opened();
      if (closed_ || failed_ || windows_.killed_ || at == nullptr || stands_still() ||
          network.random_.chance(network.faults_.reset)) {
        outcome = fail(Errc::peer_lost, "the window is lost");
        break;
      }
      const std::vector<Segment> source = {{at->memory.data() + offset, bytes, nullptr}};
      copy_range(source, into, half == 0 ? 0 : bytes / 2, half == 0 ? bytes / 2 : bytes);
      next = half_time;
    }
    if (outcome && bytes != 0 && network.random_.chance(network.faults_.bit_flip)) {
      ++network.stats_.flipped;
      flip_bit(into, network.random_.below(bytes * 8));
    }
    if (!outcome) failed_ = true;
    ++network.stats_.window_reads;
    done.finish(outcome);
    quiet_.finish({});
  }

  SimWindows& windows_;
  const std::uint64_t number_;
  const std::uint64_t size_;
  bool failed_ = false;
  bool closed_ = false;
  Completion quiet_;
};

SimWindows::SimWindows(SimNetwork& network, Loop& loop, std::uint32_t process)
    : network_(network), loop_(loop), process_(process) {
  network_.windows_.push_back(this);
}

SimWindows::~SimWindows() {
  std::erase(network_.windows_, this);
  std::erase_if(network_.opened_, [this](const auto& item) { return item.second.owner == this; });
}

Result<std::vector<std::byte>> SimWindows::open(std::span<std::byte> memory) {
  if (memory.empty()) return fail(Errc::invalid_argument, "an empty window");
  Ticket ticket;
  ticket.number = network_.next_window_++;
  network_.opened_[ticket.number] = {this, process_, memory};
  std::vector<std::byte> bytes(sizeof ticket);
  std::memcpy(bytes.data(), &ticket, sizeof ticket);
  return bytes;
}

Result<std::unique_ptr<RemoteWindow>> SimWindows::enter(std::span<const std::byte> window) {
  Ticket ticket;
  if (window.size() != sizeof ticket) return fail(Errc::corrupt, "these bytes are no window");
  std::memcpy(&ticket, window.data(), sizeof ticket);
  if (ticket.magic != kMagic) return fail(Errc::corrupt, "these bytes are no window");
  const auto found = network_.opened_.find(ticket.number);
  if (found == network_.opened_.end()) return fail(Errc::unavailable, "that window is gone");
  return std::unique_ptr<RemoteWindow>(
      std::make_unique<SimRemoteWindow>(*this, ticket.number, found->second.memory.size()));
}

}  // namespace membrain
