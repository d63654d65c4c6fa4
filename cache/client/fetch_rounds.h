// Who listens to the exchanges of a Fetching, and who watches them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "cache/client/fetch.h"

namespace membrain {

/// The listener of one group's exchange: what came, and what is to be asked for elsewhere.
class Fetching::Round final : public FetchListener {
 public:
  explicit Round(Fetching& fetching) noexcept : fetching_(fetching) {}

  void on_target(const FetchTarget& target, const Result<>& outcome) override;
  [[nodiscard]] std::span<const std::uint32_t> again() const noexcept { return again_; }
  /// That have come since it was asked last.
  [[nodiscard]] std::uint64_t take_bytes() noexcept { return std::exchange(bytes_, 0); }

 private:
  Fetching& fetching_;
  std::vector<std::uint32_t> again_;
  std::uint64_t bytes_ = 0;
};

/// The listener of one hedge, and its staging memory: what still comes of a target that was set
/// aside lands there, so it lives as long as the fetch.
class Fetching::HedgeRound final : public FetchListener {
 public:
  /// `targets` come into its memory, one behind the other.
  HedgeRound(Fetching& fetching, std::span<FetchTarget> targets);

  void attach(FetchExchange& exchange) noexcept { exchange_ = &exchange; }
  void detach() noexcept { exchange_ = nullptr; }
  void on_target(const FetchTarget& target, const Result<>& outcome) override;
  /// One of its items has ended otherwise.
  void unwanted() noexcept;
  [[nodiscard]] bool wanted() const noexcept { return wanted_ != 0; }
  [[nodiscard]] std::span<const std::uint32_t> again() const noexcept { return again_; }

 private:
  Fetching& fetching_;
  std::unique_ptr<std::byte[]> memory_;
  std::vector<Copy> copies_;
  std::vector<std::uint32_t> again_;
  FetchExchange* exchange_ = nullptr;
  std::size_t wanted_;  ///< items
};

/// Looks at an exchange when it has been silent for too long, if any block of it has another
/// replica: first it is hedged, then given up. One of which all has come from elsewhere may take
/// its time to speak; if it does not, that is held against the lane.
class Fetching::Watch {
 public:
  Watch(Fetching& fetching, FetchExchange& exchange, NodeId node);
  [[nodiscard]] bool gave_up() const noexcept { return gave_up_; }

 private:
  void look();

  Fetching& fetching_;
  FetchExchange& exchange_;
  NodeId node_;
  Timer timer_;
  bool gave_up_ = false;
};

}  // namespace membrain
