#include "daemon/core/config.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};
constexpr Unit kTimeUnits[] = {{"ms", 1'000'000},
                               {"s", 1'000'000'000},
                               {"m", 60'000'000'000},
                               {"h", 3'600'000'000'000},
                               {"d", 86'400'000'000'000}};
constexpr Unit kByteUnits[] = {{"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}};

// A whole number and its unit: "90m", "4MiB".
std::optional<uint64_t> ParseQuantity(std::string_view text, std::span<const Unit> units) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits == 0 || digits > 18) return std::nullopt;
  uint64_t number = 0;
  for (const char digit : text.substr(0, digits)) number = number * 10 + (digit - '0');
  for (const Unit& unit : units) {
    if (text.substr(digits) != unit.name) continue;
    const uint64_t most = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (number > most / unit.factor) return std::nullopt;
    return number * unit.factor;
  }
  return std::nullopt;
}

// In the largest unit that divides it.
std::string FormatQuantity(uint64_t value, std::span<const Unit> units) {
  for (auto unit = units.rbegin(); unit != units.rend(); ++unit) {
    if (value % unit->factor == 0) {
      return std::to_string(value / unit->factor) + std::string(unit->name);
    }
  }
  return std::to_string(value);
}

absl::Status BadConfig(const std::string& file, uint32_t line, const std::string& key,
                       const std::string& message) {
  return Error(Reason::k_BAD_FIELD, file + ":" + std::to_string(line) + ": " + message,
               {{"field", key}});
}

// One value of the file, with where it stands. Each method stores it when it is right and says what
// would be right when it is not.
class Value {
 public:
  Value(const toml::node& node, const std::string& file, std::string key)
      : node_(node), file_(file), key_(std::move(key)) {}

  absl::Status Wrong(const std::string& right) const {
    return BadConfig(file_, node_.source().begin.line, key_, key_ + " must be " + right + Shown());
  }

  absl::Status Count(uint32_t least, uint32_t most, uint32_t& to) const {
    const std::optional<int64_t> number = node_.value_exact<int64_t>();
    if (!number || *number < least || *number > most) {
      return Wrong("a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    to = static_cast<uint32_t>(*number);
    return absl::OkStatus();
  }

  absl::Status Time(Duration least, Duration most, Duration& to) const {
    uint64_t count = to.count();
    RETURN_IF_ERROR(Quantity(kTimeUnits, least.count(), most.count(), "a time", count));
    to = Duration(count);
    return absl::OkStatus();
  }

  absl::Status Bytes(uint64_t least, uint64_t most, uint64_t& to) const {
    return Quantity(kByteUnits, least, most, "a size", to);
  }

  absl::Status Flag(bool& to) const {
    const std::optional<bool> flag = node_.value_exact<bool>();
    if (!flag) return Wrong("true or false");
    to = *flag;
    return absl::OkStatus();
  }

  absl::Status Path(std::string& to) const {
    const std::optional<std::string> path = node_.value_exact<std::string>();
    if (!path || (!path->empty() && (*path)[0] != '/') || path->find('\0') != path->npos) {
      return Wrong("an absolute path (or \"\" for the default)");
    }
    to = *path;
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status Choice(std::initializer_list<std::pair<std::string_view, T>> choices, T& to) const {
    const std::optional<std::string> chosen = node_.value_exact<std::string>();
    std::string names;
    for (const auto& [name, value] : choices) {
      if (chosen == name) {
        to = value;
        return absl::OkStatus();
      }
      names += (names.empty() ? "\"" : ", \"") + std::string(name) + "\"";
    }
    return Wrong("one of " + names);
  }

  absl::Status Uids(std::vector<uint32_t>& to) const {
    const toml::array* list = node_.as_array();
    const char right[] = "a list of numeric user ids, as in [1000, 1001]";
    if (list == nullptr) return Wrong(right);
    to.clear();
    for (const toml::node& item : *list) {
      const std::optional<int64_t> uid = item.value_exact<int64_t>();
      // The last one means "no user" to the kernel.
      if (!uid || *uid < 0 || *uid >= std::numeric_limits<uint32_t>::max()) return Wrong(right);
      to.push_back(static_cast<uint32_t>(*uid));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Quantity(std::span<const Unit> units, uint64_t least, uint64_t most,
                        std::string_view what, uint64_t& to) const {
    const std::optional<std::string> text = node_.value_exact<std::string>();
    const std::optional<uint64_t> value = text ? ParseQuantity(*text, units) : std::nullopt;
    if (!value || *value < least || *value > most) {
      return Wrong(std::string(what) + " from \"" + FormatQuantity(least, units) + "\" to \"" +
                   FormatQuantity(most, units) + "\"");
    }
    to = *value;
    return absl::OkStatus();
  }

  std::string Shown() const {
    if (const auto* text = node_.as_string()) return ", not \"" + text->get() + "\"";
    if (const auto* number = node_.as_integer()) return ", not " + std::to_string(number->get());
    if (const auto* flag = node_.as_boolean()) return flag->get() ? ", not true" : ", not false";
    return "";
  }

  const toml::node& node_;
  const std::string& file_;
  const std::string key_;
};

struct Key {
  std::string_view name;
  absl::Status (*set)(const Value& value, Config& config);
};

constexpr uint32_t kManyCommands = 100'000;
constexpr Duration kSecond = std::chrono::seconds(1);
constexpr Duration kDay = std::chrono::hours(24);

constexpr Key kKeys[] = {
    {"state_dir", [](const Value& v, Config& c) { return v.Path(c.state_dir); }},
    {"runtime_dir", [](const Value& v, Config& c) { return v.Path(c.runtime_dir); }},
    {"socket", [](const Value& v, Config& c) { return v.Path(c.socket); }},
    {"limits.max_sessions",
     [](const Value& v, Config& c) { return v.Count(1, 1'000'000, c.limits.max_sessions); }},
    {"limits.max_sessions_per_uid",
     [](const Value& v, Config& c) {
       return v.Count(1, 1'000'000, c.limits.max_sessions_per_uid);
     }},
    {"limits.max_commands",
     [](const Value& v, Config& c) { return v.Count(1, kManyCommands, c.limits.max_commands); }},
    {"limits.max_commands_per_session",
     [](const Value& v, Config& c) {
       return v.Count(1, kManyCommands, c.limits.max_commands_per_session);
     }},
    {"limits.max_run_timeout",
     [](const Value& v, Config& c) {
       return v.Time(kSecond, 366 * kDay, c.limits.max_run_timeout);
     }},
    {"limits.result_retention",
     [](const Value& v, Config& c) {
       return v.Time(kSecond, 30 * kDay, c.limits.result_retention);
     }},
    {"limits.request_id_retention",
     [](const Value& v, Config& c) {
       return v.Time(kSecond, 30 * kDay, c.limits.request_id_retention);
     }},
    {"limits.output_spool_bytes",
     [](const Value& v, Config& c) {
       return v.Bytes(1ull << 20, 1ull << 50, c.limits.output_spool_bytes);
     }},
    {"access.full", [](const Value& v, Config& c) { return v.Uids(c.access.full); }},
    {"access.operate", [](const Value& v, Config& c) { return v.Uids(c.access.operate); }},
    {"log.level",
     [](const Value& v, Config& c) {
       return v.Choice<LogLevel>({{"debug", LogLevel::kDebug},
                                  {"info", LogLevel::kInfo},
                                  {"warning", LogLevel::kWarning},
                                  {"error", LogLevel::kError}},
                                 c.log_level);
     }},
    {"runner.policy",
     [](const Value& v, Config& c) {
       return v.Choice<RunnerPolicy>({{"auto", RunnerPolicy::kAuto},
                                      {"never", RunnerPolicy::kNever},
                                      {"require", RunnerPolicy::kRequire}},
                                     c.runner.policy);
     }},
    {"runner.binary", [](const Value& v, Config& c) { return v.Path(c.runner.binary); }},
    {"runner.dir", [](const Value& v, Config& c) { return v.Path(c.runner.dir); }},
    {"backend.local.enabled", [](const Value& v, Config& c) { return v.Flag(c.local.enabled); }},
    {"backend.local.cwd", [](const Value& v, Config& c) { return v.Path(c.local.cwd); }},
    {"backend.ssh.enabled", [](const Value& v, Config& c) { return v.Flag(c.ssh.enabled); }},
    {"backend.ssh.transport",
     [](const Value& v, Config& c) {
       return v.Choice<SshTransportChoice>({{"auto", SshTransportChoice::kAuto},
                                            {"openssh", SshTransportChoice::kOpenSsh},
                                            {"libssh2", SshTransportChoice::kLibssh2}},
                                           c.ssh.transport);
     }},
    {"backend.ssh.host_key",
     [](const Value& v, Config& c) {
       return v.Choice<std::string>({{"strict", "strict"}, {"accept-new", "accept-new"}},
                                    c.ssh.host_key);
     }},
};

// Insertions, deletions and replacements that make one text out of the other.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row[b.size()];
}

std::string_view LastPart(std::string_view key) { return key.substr(key.rfind('.') + 1); }

// Nearest as a whole, or by its own name when only the table is wrong.
std::string_view NearestKey(std::string_view unknown) {
  const auto distance = [unknown](const Key& key) {
    return std::min(EditDistance(unknown, key.name),
                    EditDistance(LastPart(unknown), LastPart(key.name)) + 1);
  };
  return std::min_element(std::begin(kKeys), std::end(kKeys),
                          [&](const Key& a, const Key& b) { return distance(a) < distance(b); })
      ->name;
}

constexpr std::string_view kTables[] = {"limits",  "access",        "log",        "runner",
                                        "backend", "backend.local", "backend.ssh"};

bool IsTable(std::string_view key) {
  return std::find(std::begin(kTables), std::end(kTables), key) != std::end(kTables);
}

std::string_view NearestTable(std::string_view unknown) {
  return *std::min_element(std::begin(kTables), std::end(kTables), [&](auto a, auto b) {
    return EditDistance(unknown, a) < EditDistance(unknown, b);
  });
}

absl::Status ApplyTable(const toml::table& table, const std::string& prefix,
                        const std::string& file, Config& config) {
  for (const auto& [toml_key, node] : table) {
    const std::string key = prefix + std::string(toml_key.str());
    const uint32_t line = toml_key.source().begin.line;
    const auto* known = std::find_if(std::begin(kKeys), std::end(kKeys),
                                     [&key](const Key& k) { return k.name == key; });
    if (known != std::end(kKeys)) {
      RETURN_IF_ERROR(known->set(Value(node, file, key), config));
    } else if (node.is_table() && IsTable(key)) {
      RETURN_IF_ERROR(ApplyTable(*node.as_table(), key + ".", file, config));
    } else if (node.is_table()) {
      return BadConfig(file, line, key,
                       "there is no table [" + key + "]; the nearest is [" +
                           std::string(NearestTable(key)) + "]");
    } else if (IsTable(key)) {
      return BadConfig(file, line, key, key + " must be a table: [" + key + "]");
    } else {
      return BadConfig(
          file, line, key,
          "there is no key " + key + "; the nearest is " + std::string(NearestKey(key)));
    }
  }
  return absl::OkStatus();
}

std::string FirstOf(std::string_view list) { return std::string(list.substr(0, list.find(':'))); }

absl::Status FillPaths(const std::string& file, const ConfigEnvironment& env, Config& config) {
  if (config.state_dir.empty()) {
    config.state_dir = !env.state_directory.empty()  ? FirstOf(env.state_directory)
                       : !env.xdg_state_home.empty() ? env.xdg_state_home + "/hermesd"
                       : !env.home.empty()           ? env.home + "/.local/state/hermesd"
                                                     : "/var/lib/hermesd";
  }
  if (config.runtime_dir.empty()) {
    config.runtime_dir = !env.runtime_directory.empty() ? FirstOf(env.runtime_directory)
                         : !env.xdg_runtime_dir.empty() ? env.xdg_runtime_dir + "/hermesd"
                                                        : "/run/hermesd";
  }
  if (config.socket.empty()) config.socket = config.runtime_dir + "/hermes.sock";
  if (config.socket.size() > kMaxSocketPathBytes) {
    return Error(Reason::k_BAD_FIELD,
                 file + ": socket must be at most " + std::to_string(kMaxSocketPathBytes) +
                     " bytes long, not " + config.socket,
                 {{"field", "socket"}});
  }
  return absl::OkStatus();
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

absl::StatusOr<Config> ParseConfig(std::string_view text, const std::string& file,
                                   const ConfigEnvironment& environment) {
  const toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) {
    return BadConfig(file, parsed.error().source().begin.line, "",
                     std::string(parsed.error().description()));
  }
  Config config;
  RETURN_IF_ERROR(ApplyTable(parsed.table(), "", file, config));
  if (config.limits.request_id_retention < config.limits.result_retention) {
    return Error(Reason::k_BAD_FIELD,
                 file +
                     ": limits.request_id_retention must not be shorter than "
                     "limits.result_retention",
                 {{"field", "limits.request_id_retention"}});
  }
  RETURN_IF_ERROR(FillPaths(file, environment, config));
  return config;
}

absl::StatusOr<Config> LoadConfig(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (file == nullptr) return ErrnoStatus(errno, path);
  std::string text;
  char chunk[4096];
  while (const size_t got = std::fread(chunk, 1, sizeof(chunk), file.get()))
    text.append(chunk, got);
  if (std::ferror(file.get()) != 0) return ErrnoStatus(errno, path);
  return ParseConfig(text, path,
                     {Variable("STATE_DIRECTORY"), Variable("RUNTIME_DIRECTORY"),
                      Variable("XDG_STATE_HOME"), Variable("XDG_RUNTIME_DIR"), Variable("HOME")});
}

Config DevConfig(const std::string& dir) {
  Config config;
  config.state_dir = dir;
  config.runtime_dir = dir;
  config.socket = dir + "/hermes.sock";
  config.runner.dir = dir + "/runner";
  return config;
}

std::vector<std::string> ConfigKeys() {
  std::vector<std::string> names;
  for (const Key& key : kKeys) names.emplace_back(key.name);
  return names;
}

}  // namespace hermes
