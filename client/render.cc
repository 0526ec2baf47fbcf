#include "client/render.h"

#include <algorithm>
#include <map>

#include "client/mounts.h"
#include "client/outcome.h"
#include "client/parse.h"
#include "client/text.h"

namespace hermes::client {
namespace {

// Longer summaries are cut in tables; -o json has all that the daemon keeps.
constexpr size_t kSummaryColumns = 60;

template <class Map>
std::string JoinPairs(const Map& pairs) {
  std::map<std::string, std::string> sorted(pairs.begin(), pairs.end());
  std::string out;
  for (const auto& [key, value] : sorted) {
    if (!out.empty()) out += ',';
    out.append(key).append("=").append(value);
  }
  return out;
}

std::string Since(const google::protobuf::Timestamp& time, const View& view) {
  return Age(view.now_seconds - time.seconds());
}

std::string Until(const google::protobuf::Timestamp& time, const View& view) {
  int64_t left = time.seconds() - view.now_seconds;
  return left <= 0 ? "over" : Age(left);
}

// The first characters of a script on one line, cut at a whole character.
std::string Summary(const std::string& bytes) {
  std::string text = ForTerminal(bytes);
  size_t columns = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    bool starts_character = (text[i] & 0xc0) != 0x80;
    if (starts_character && ++columns > kSummaryColumns) return text.substr(0, i) + "...";
  }
  return text;
}

std::string ExitCell(const v1::Command& command) {
  if (!HasEnded(command)) return "-";
  if (command.state() == v1::Command::UNKNOWN) return "?";
  return std::to_string(ExitCodeOf(command));
}

std::string CauseCell(const v1::Command& command) {
  if (!HasEnded(command)) return "-";
  return OrDash(command.has_exit() ? v1::Exit::Cause_Name(command.exit().cause()) : "");
}

std::string RuntimeCell(const v1::Command& command, const View& view) {
  if (!command.has_start_time()) return "-";
  int64_t end = command.has_end_time() ? command.end_time().seconds() : view.now_seconds;
  return Age(end - command.start_time().seconds());
}

// The flags of Capabilities that are set, by their names in the API.
std::string Abilities(const v1::Capabilities& capabilities) {
  std::string out;
  auto add = [&](bool set, const char* name) {
    if (set) out += (out.empty() ? "" : " ") + std::string(name);
  };
  add(capabilities.split_stderr(), "split_stderr");
  add(capabilities.merged_order(), "merged_order");
  add(capabilities.pty(), "pty");
  add(capabilities.stdin_stream(), "stdin_stream");
  add(capabilities.survives_daemon(), "survives_daemon");
  add(capabilities.remote_deadline(), "remote_deadline");
  add(capabilities.shell_functions(), "shell_functions");
  add(capabilities.residual_tracking(), "residual_tracking");
  add(capabilities.kill_verified(), "kill_verified");
  add(capabilities.argv(), "argv");
  return OrDash(out);
}

class KeyValues {
 public:
  void Add(std::string key, std::string value) {
    rows_.push_back({std::move(key), std::move(value)});
  }

  std::string Render() const {
    size_t width = 0;
    for (const auto& [key, value] : rows_) width = std::max(width, key.size());
    std::string out;
    for (const auto& [key, value] : rows_) {
      out += key + ":" + std::string(width - key.size() + 2, ' ') + ForTerminal(value) + "\n";
    }
    return out;
  }

 private:
  std::vector<std::pair<std::string, std::string>> rows_;
};

// A mount's form, and what that leaves out.
std::string Describe(const v1::Mount& mount) {
  std::string text = FormatMount(mount) + " (";
  if (mount.kind() == v1::Mount::FILE) text += "a file; ";
  if (mount.links() == v1::Mount::INSIDE) text += "follows links inside; ";
  if (mount.links() == v1::Mount::FOLLOW_HOST) text += "follows links; ";
  text += "at most " + std::to_string(mount.max_files()) + " files, " +
          HumanBytes(mount.max_bytes()) + ", " + HumanBytes(mount.max_file_bytes()) + " each";
  for (int i = 0; i < mount.ignore_size(); ++i)
    text += (i == 0 ? "; ignores " : " ") + mount.ignore(i);
  return text + ")";
}

void AddSync(const v1::SyncPolicy& policy, KeyValues* out) {
  out->Add("on sync error", policy.on_error() == v1::SyncPolicy::RUN_STALE ? "run-stale" : "fail");
  if (policy.has_min_interval()) {
    const google::protobuf::Duration& least = policy.min_interval();
    const int64_t ms = least.seconds() * 1000 + least.nanos() / 1'000'000;
    out->Add("sync interval", ms % 1000 == 0 ? Age(least.seconds()) : std::to_string(ms) + "ms");
  }
  if (!policy.lock_file().empty()) out->Add("sync lock", policy.lock_file());
}

}  // namespace

std::string Age(int64_t seconds) {
  if (seconds < 0) seconds = 0;
  struct {
    int64_t seconds;
    const char* name;
  } static constexpr kUnits[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
  for (size_t i = 0; i < std::size(kUnits); ++i) {
    if (seconds < kUnits[i].seconds && i + 1 < std::size(kUnits)) continue;
    std::string text = std::to_string(seconds / kUnits[i].seconds) + kUnits[i].name;
    if (i + 1 == std::size(kUnits)) return text;
    int64_t rest = seconds % kUnits[i].seconds / kUnits[i + 1].seconds;
    return rest == 0 ? text : text + std::to_string(rest) + kUnits[i + 1].name;
  }
  return "";
}

std::string HumanBytes(uint64_t count) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  double value = static_cast<double>(count);
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  char text[32];
  snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string OrDash(std::string text) { return text.empty() ? "-" : std::move(text); }

std::string RenderSessions(const std::vector<v1::Session>& sessions, const View& view) {
  Table table({"NAME", "STATE", "BACKEND", "ENGINE", "RUNNING", "AGE", "LEASE", "LABELS", "CWD"});
  for (const v1::Session& session : sessions) {
    table.Add({ShortName(session.name()), v1::Session::State_Name(session.state()),
               session.backend(), OrDash(session.engine()),
               std::to_string(session.running_commands()), Since(session.create_time(), view),
               session.has_expire_time() ? Until(session.expire_time(), view) : "-",
               OrDash(JoinPairs(session.labels())), OrDash(session.cwd())});
  }
  return table.Render(view.colour);
}

std::string RenderSession(const v1::Session& session, const View& view) {
  KeyValues out;
  out.Add("name", ShortName(session.name()));
  out.Add("state", v1::Session::State_Name(session.state()));
  out.Add("backend", session.backend());
  if (!session.place().empty()) out.Add("place", session.place());
  out.Add("engine",
          OrDash(session.engine()) +
              (session.engine_reason().empty() ? "" : " (" + session.engine_reason() + ")"));
  out.Add("cwd", OrDash(session.cwd()));
  out.Add("running commands", std::to_string(session.running_commands()));
  out.Add("shell generation", std::to_string(session.shell_generation()));
  out.Add("age", Since(session.create_time(), view));
  out.Add("idle ttl", session.has_idle_ttl() ? Age(session.idle_ttl().seconds()) : "none");
  out.Add("lease", session.has_expire_time() ? Until(session.expire_time(), view) : "none");
  out.Add("labels", OrDash(JoinPairs(session.labels())));
  out.Add("incarnation", OrDash(session.incarnation()));
  out.Add("created by uid", std::to_string(session.creator_uid()));
  out.Add("capabilities", Abilities(session.capabilities()));
  for (const v1::Mount& mount : session.mounts())
    out.Add("mount " + ForTerminal(mount.id()), Describe(mount));
  if (session.has_sync()) AddSync(session.sync(), &out);
  for (const v1::Condition& condition : session.conditions()) {
    out.Add("condition", condition.type() + (condition.status() ? "" : " (over)") + ": " +
                             condition.reason() + " " + condition.message());
  }
  out.Add("etag", OrDash(session.etag()));
  return out.Render();
}

std::string RenderSessionEvent(const v1::SessionEvent& event) {
  switch (event.event_case()) {
    case v1::SessionEvent::kUpsert:
      return ForTerminal(ShortName(event.upsert().name())) + " " +
             v1::Session::State_Name(event.upsert().state()) + " " +
             std::to_string(event.upsert().running_commands()) + " running\n";
    case v1::SessionEvent::kRemoved:
      return ForTerminal(ShortName(event.removed())) + " removed\n";
    default:
      return "";
  }
}

std::string RenderCommands(const std::vector<v1::Command>& commands, const View& view) {
  Table table({"NAME", "STATE", "EXIT", "CAUSE", "PID", "AGE", "RUNTIME", "RESIDUAL", "COMMAND"});
  for (const v1::Command& command : commands) {
    table.Add({ShortName(command.name()), v1::Command::State_Name(command.state()),
               ExitCell(command), CauseCell(command),
               command.pid() == 0 ? "-" : std::to_string(command.pid()),
               Since(command.create_time(), view), RuntimeCell(command, view),
               command.residual() ? "yes" : "-", Summary(command.summary())});
  }
  return table.Render(view.colour);
}

std::string RenderInfo(const v1::InfoResponse& info, const View& view) {
  KeyValues out;
  out.Add("version", info.version() + " (" + OrDash(info.commit()) + ")");
  out.Add("daemon id", info.daemon_id());
  out.Add("pid", std::to_string(info.pid()));
  out.Add("uid", std::to_string(info.uid()));
  out.Add("up", Since(info.start_time(), view));
  out.Add("draining", info.draining() ? "yes" : "no");
  const v1::Stats& stats = info.stats();
  const v1::Limits& limits = info.limits();
  out.Add("sessions",
          std::to_string(stats.sessions()) + " of " + std::to_string(limits.max_sessions()));
  out.Add("running commands", std::to_string(stats.running_commands()) + " of " +
                                  std::to_string(limits.max_commands()));
  out.Add("commands so far", std::to_string(stats.commands_started()) + " started, " +
                                 std::to_string(stats.commands_finished()) + " finished, " +
                                 std::to_string(stats.commands_killed()) + " killed, " +
                                 std::to_string(stats.commands_unknown()) + " unknown, " +
                                 std::to_string(stats.commands_adopted()) + " adopted");
  out.Add("output", HumanBytes(stats.output_bytes()) + ", dropped " +
                        HumanBytes(stats.output_bytes_dropped()));
  out.Add("readers", std::to_string(stats.readers()));
  out.Add("memory", HumanBytes(stats.rss_bytes()));
  out.Add("parser confined by", OrDash(info.unpack_confinement()));
  return out.Render();
}

std::string RenderBackends(const v1::CapabilitiesResponse& capabilities, const View& view) {
  Table table({"BACKEND", "ENGINE", "AVAILABLE", "KILL", "ABILITIES"});
  for (const v1::BackendCapabilities& backend : capabilities.backends()) {
    std::string available = backend.available() ? "yes" : "no: " + backend.unavailable_reason();
    if (backend.has_runner()) {
      table.Add({backend.backend(), "runner", available,
                 v1::KillMethod_Name(backend.runner().kill_method()), Abilities(backend.runner())});
    }
    if (backend.has_plain()) {
      table.Add({backend.backend(), "plain", available,
                 v1::KillMethod_Name(backend.plain().kill_method()), Abilities(backend.plain())});
    }
    if (!backend.has_runner() && !backend.has_plain()) {
      table.Add({backend.backend(), "-", available, "-", "-"});
    }
  }
  return table.Render(view.colour);
}

}  // namespace hermes::client
