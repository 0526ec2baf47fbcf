#include "backends/ssh/ssh_handle.h"

namespace hermes {
namespace {

constexpr std::string_view kPrefix = "ssh:";
constexpr size_t kKeyDigits = 64;       // a SHA-256
constexpr size_t kDirectoryDigits = 8;  // of them

// Some of it goes to a shell.
bool IsKey(std::string_view text) {
  return text.size() == kKeyDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::string SshHandle::Text() const { return PlaceKey() + ":" + place->route + ":" + place->name; }

std::string SshHandle::PlaceKey() const { return std::string(kPrefix) + key; }

std::string SshHandle::Directory() const { return key.substr(0, kDirectoryDigits); }

std::optional<SshHandle> ParseSshHandle(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  SshHandle handle{.key = std::string(text.substr(0, kKeyDigits)), .place = std::nullopt};
  if (!IsKey(handle.key)) return std::nullopt;
  text.remove_prefix(kKeyDigits);
  if (text.empty()) return handle;
  if (!text.starts_with(':')) return std::nullopt;
  text.remove_prefix(1);
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon + 1 == text.size()) return std::nullopt;
  handle.place = SshPlace{.name = std::string(text.substr(colon + 1)),
                          .route = std::string(text.substr(0, colon))};
  return handle;
}

}  // namespace hermes
