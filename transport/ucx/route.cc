#include "transport/ucx/route.h"

#include <algorithm>
#include <cstdlib>

namespace membrain {

namespace {

/// Calls `each` for every line.
template <class Each>
void for_lines(std::string_view text, Each each) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    each(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::string_view first_word(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  text.remove_prefix(begin);
  return text.substr(0, text.find(' '));
}

/// "4:posix/memory.0" -> "posix/memory".
std::string transport_in(std::string_view lane) {
  lane.remove_prefix(std::min(lane.find(':') + 1, lane.size()));
  return std::string(lane.substr(0, lane.rfind('.')));
}

/// "0..<egr/short>..93..<egr/bcopy>..8256..<rndv>..(inf)" -> "short to 93 B, bcopy to 8256 B, then
/// rndv".
std::string sizes_in(std::string_view thresholds) {
  std::string text;
  for (std::size_t open = 0; (open = thresholds.find('<', open)) != std::string_view::npos;) {
    const std::size_t close = thresholds.find('>', open);
    if (close == std::string_view::npos) break;
    std::string_view scheme = thresholds.substr(open + 1, close - open - 1);
    scheme.remove_prefix(scheme.find('/') + 1);  // npos + 1 is 0
    const std::string_view rest = thresholds.substr(close + 1);
    const std::size_t number = rest.find_first_of("0123456789(");
    if (!text.empty()) text += ", ";
    if (number == std::string_view::npos || rest[number] == '(')
      return text.append("then ").append(scheme);
    const std::string_view size = rest.substr(number, rest.find('.', number) - number);
    text.append(scheme).append(" to ").append(size).append(" B");
    open = close;
  }
  return text;
}

}  // namespace

std::string printed(const std::function<void(std::FILE*)>& print) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* stream = ::open_memstream(&text, &size);
  if (stream == nullptr) return {};
  print(stream);
  std::fclose(stream);
  std::string copy(text, size);
  std::free(text);
  return copy;
}

std::string route_in(std::string_view endpoint_info) {
  std::string route;
  std::string sizes;
  for_lines(endpoint_info, [&](std::string_view line) {
    if (const std::size_t lane = line.find("lane["); lane != std::string_view::npos) {
      const std::size_t colon = line.find("]:", lane);
      if (colon == std::string_view::npos) return;
      const std::string transport = transport_in(first_word(line.substr(colon + 2)));
      if (route.find(transport) != std::string::npos) return;
      if (!route.empty()) route += ", ";
      route += transport;
    }
    if (const std::size_t sent = line.find("am_send:"); sent != std::string_view::npos) {
      sizes = sizes_in(line.substr(sent));
    }
  });
  return route.empty() || sizes.empty() ? route : route + "; " + sizes;
}

std::vector<std::string> transports_in(std::string_view context_info) {
  std::vector<std::string> transports;
  for_lines(context_info, [&](std::string_view line) {
    const std::size_t dashes = line.find(" -- ");
    if (line.find("resource") == std::string_view::npos || dashes == std::string_view::npos) return;
    transports.emplace_back(first_word(line.substr(dashes + 4)));
  });
  return transports;
}

bool uses_port(const std::vector<std::string>& transports, std::string_view device, int port) {
  std::string name = "/" + std::string(device) + ":";
  if (port != 0) name += std::to_string(port);
  return std::ranges::any_of(transports, [&](const std::string& transport) {
    const std::size_t at = transport.find(name);
    return at != std::string::npos && (port == 0 || at + name.size() == transport.size());
  });
}

}  // namespace membrain
