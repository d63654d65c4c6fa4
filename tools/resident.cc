#include "tools/resident.h"

#include <csignal>
#include <filesystem>
#include <system_error>
#include <utility>

namespace membrain {
namespace {

constexpr std::chrono::seconds kGrace(20);

}  // namespace

Outcome<> Resident::start() {
  Outcome<std::unique_ptr<Child>> started = Child::start(config_);
  if (!started) return tl::unexpected(started.error());
  process_ = std::move(*started);
  stopped_ = ready_ = false;
  return {};
}

void Resident::kill() {
  if (!process_) return;
  process_->kill_now();
  process_.reset();
  stopped_ = ready_ = false;
}

void Resident::stop() {
  if (process_ && !process_->ended()) ::kill(process_->pid(), SIGSTOP), stopped_ = true;
}

void Resident::go_on() {
  if (process_ && std::exchange(stopped_, false)) ::kill(process_->pid(), SIGCONT);
}

void Resident::ask_to_end() {
  go_on();
  if (process_) process_->ask_to_end();
}

void Resident::finish() {
  if (process_) process_->stop(kGrace);
  process_.reset();
}

bool Resident::ready() {
  if (!process_ || ready_) return ready_;
  process_->fill();
  while (const std::optional<std::string> line = process_->next_line()) {
    if (line->starts_with("membrain ") && line->find(" ready ") != std::string::npos) ready_ = true;
  }
  return ready_;
}

std::optional<std::string> Resident::died() {
  if (!process_) return std::nullopt;
  std::optional<std::string> how = process_->ended();
  if (how) process_.reset();
  return how;
}

std::size_t Resident::descriptors() const {
  if (!process_) return 0;
  std::error_code ignored;
  std::size_t count = 0;
  const std::string folder = fmt::format("/proc/{}/fd", process_->pid());
  for (auto at = std::filesystem::directory_iterator(folder, ignored);
       at != std::filesystem::directory_iterator(); at.increment(ignored)) {
    ++count;
    if (ignored) break;
  }
  return count;
}

}  // namespace membrain
