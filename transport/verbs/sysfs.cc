#include "transport/verbs/sysfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <system_error>

#include "transport/descriptor.h"

namespace membrain::verbs {

namespace {

bool is_digit(char letter) noexcept {
  return letter >= '0' && letter <= '9';
}

/// Runs of digits compare by their value.
bool counts_before(std::string_view a, std::string_view b) noexcept {
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
      continue;
    }
    const auto run = [](std::string_view text, std::size_t& at) {
      while (at < text.size() && text[at] == '0') ++at;
      const std::size_t begin = at;
      while (at < text.size() && is_digit(text[at])) ++at;
      return text.substr(begin, at - begin);
    };
    const std::string_view left = run(a, i);
    const std::string_view right = run(b, j);
    if (left.size() != right.size()) return left.size() < right.size();
    if (left != right) return left < right;
  }
  return a.size() - i < b.size() - j;
}

}  // namespace

std::optional<std::string> read_attribute(const std::filesystem::path& file) {
  const Descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat what {};
  if (!opened || ::fstat(opened.fd(), &what) != 0 || !S_ISREG(what.st_mode)) return std::nullopt;
  std::array<char, kMaxAttributeBytes + 1> text{};
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(opened.fd(), text.data() + size, text.size() - size);
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > kMaxAttributeBytes) return std::nullopt;
  while (size > 0 && std::isspace(static_cast<unsigned char>(text[size - 1])) != 0) --size;
  return std::string(text.data(), size);
}

std::optional<std::int64_t> number_in(std::string_view text) {
  const bool hexadecimal = text.starts_with("0x");
  if (hexadecimal) text.remove_prefix(2);
  std::int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, hexadecimal ? 16 : 10);
  if (error != std::errc() || stop == text.data()) return std::nullopt;
  return value;
}

std::int64_t read_number(const std::filesystem::path& file, std::int64_t otherwise) {
  const std::optional<std::string> text = read_attribute(file);
  return text ? number_in(*text).value_or(otherwise) : otherwise;
}

std::vector<std::string> entries_of(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::directory_iterator() && names.size() < kMaxEntries;
       at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  std::ranges::sort(names, counts_before);
  return names;
}

}  // namespace membrain::verbs
