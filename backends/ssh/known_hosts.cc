#include "backends/ssh/known_hosts.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "backends/ssh/libssh2_wire.h"

namespace hermes {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kHashed = "|1|";  // HMAC-SHA1 of the name, keyed with a salt
constexpr uint32_t kDefaultPort = 22;

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::string_view TakeWord(std::string_view* line) {
  size_t begin = line->find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return *line = {};
  line->remove_prefix(begin);
  std::string_view word = line->substr(0, line->find_first_of(kBlanks));
  line->remove_prefix(word.size());
  return word;
}

// `*` and `?`; never goes back further than the last `*`, so it takes at most the product of both
// lengths.
bool Matches(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0;
  std::optional<std::pair<size_t, size_t>> star;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = {++p, n};
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star) {
      p = star->first;
      n = ++star->second;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

bool HashMatches(std::string_view word, std::string_view name) {
  word.remove_prefix(kHashed.size());
  size_t bar = word.find('|');
  if (bar == std::string_view::npos) return false;
  std::optional<std::string> salt = DecodeBase64(word.substr(0, bar));
  std::optional<std::string> hash = DecodeBase64(word.substr(bar + 1));
  if (!salt || !hash) return false;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha1(), salt->data(), static_cast<int>(salt->size()),
       reinterpret_cast<const unsigned char*>(name.data()), name.size(), digest, &size);
  return *hash == std::string_view(reinterpret_cast<const char*>(digest), size);
}

// One "!pattern" that fits takes the whole line away.
bool ListMatches(std::string_view list, std::string_view name) {
  bool found = false;
  while (!list.empty()) {
    std::string_view pattern = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), pattern.size() + 1));
    const bool negated = pattern.starts_with('!');
    if (negated) pattern.remove_prefix(1);
    if (pattern.empty() || !Matches(Lower(pattern), name)) continue;
    if (negated) return false;
    found = true;
  }
  return found;
}

bool NamesMatch(std::string_view names, std::string_view name) {
  return names.starts_with(kHashed) ? HashMatches(names, name) : ListMatches(names, name);
}

struct Name {
  std::string full;   // with the port, as lines have it
  std::string plain;  // without; empty: the port is 22, so `full` has none
};

std::optional<KnownHostKey> ParseLine(std::string_view line, const Name& name) {
  std::string_view names = TakeWord(&line);
  if (names.empty() || names.starts_with('#')) return std::nullopt;
  KnownHostKey key;
  if (names.starts_with('@')) {
    if (names != "@revoked") return std::nullopt;
    key.revoked = true;
    names = TakeWord(&line);
  }
  if (!NamesMatch(names, name.full)) {
    if (name.plain.empty() || !NamesMatch(names, name.plain)) return std::nullopt;
    key.without_port = true;
  }
  key.type = TakeWord(&line);
  std::optional<std::string> blob = DecodeBase64(TakeWord(&line));
  if (key.type.empty() || !blob || KeyTypeOf(*blob) != key.type) return std::nullopt;
  key.blob = std::move(*blob);
  return key;
}

}  // namespace

std::string KnownHostName(std::string_view host, uint32_t port) {
  std::string lower = Lower(host);
  return port == kDefaultPort ? lower : "[" + lower + "]:" + std::to_string(port);
}

std::vector<KnownHostKey> FindKnownHost(std::string_view text, std::string_view path,
                                        std::string_view host, uint32_t port) {
  const Name name{KnownHostName(host, port), port == kDefaultPort ? "" : Lower(host)};
  std::vector<KnownHostKey> found;
  for (size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    std::optional<KnownHostKey> key = ParseLine(line, name);
    if (!key) continue;
    key->where = std::string(path) + ":" + std::to_string(number);
    found.push_back(std::move(*key));
  }
  return found;
}

HostKeyFinding JudgeHostKey(const std::vector<KnownHostKey>& known, std::string_view shown) {
  HostKeyFinding finding;
  const std::string type = KeyTypeOf(shown);
  for (const KnownHostKey& key : known) {
    HostKeyVerdict verdict = HostKeyVerdict::kUnknown;
    if (key.blob == shown) {
      verdict = key.revoked ? HostKeyVerdict::kRevoked : HostKeyVerdict::kKnown;
    } else if (key.revoked || key.without_port) {
      continue;
    } else {
      verdict = key.type == type ? HostKeyVerdict::kChanged : HostKeyVerdict::kOtherType;
    }
    if (verdict == HostKeyVerdict::kRevoked) return {verdict, key};
    // A confirmation beats a contradiction, which beats a key of another type.
    auto weight = [](HostKeyVerdict v) {
      return v == HostKeyVerdict::kKnown     ? 3
             : v == HostKeyVerdict::kChanged ? 2
                                             : (v == HostKeyVerdict::kOtherType ? 1 : 0);
    };
    if (weight(verdict) > weight(finding.verdict)) finding = {verdict, key};
  }
  return finding;
}

}  // namespace hermes
