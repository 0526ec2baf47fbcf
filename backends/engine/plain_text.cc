#include "backends/engine/plain_text.h"

#include <chrono>
#include <initializer_list>
#include <map>
#include <utility>

#include "backends/engine/script.h"

namespace hermes::plain {
namespace {

using shell::Kind;
using shell::Quote;

void Append(std::string* text, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts) text->append(part.data(), part.size());
}

// One walk over the processes. In: $h_p roots, $h_c cookie, $h_k "pid:start" of those found before.
// Out: $h_t their pids now, a parent before its children (a shell whose child is signalled first
// goes on with its script), $h_k grown. Found are the roots, their groups, who carries the cookie,
// who was found before, and the children of any of these. (A busybox grep sees only the first
// string of an environment without -z; others may not know -z.)
constexpr std::string_view kWalk = R"(h_n=HERMES_RUN h_j=-lsF
printf 'a\0b\0' | grep -qzxF b 2>/dev/null && h_j=-lszF
h_walk() {
h_t=' ' h_l=
for h_f in $(grep "$h_j" "${h_n}_COOKIE=$h_c" /proc/[0-9]*/environ); do
h_f=${h_f#/proc/}; h_t="$h_t${h_f%/*} "
done
for h_f in /proc/[0-9]*/stat; do
h_s=
{ while IFS= read -r h_x; do h_s=$h_s$h_x; done <"$h_f"; } 2>/dev/null
h_q=${h_s%% *}
set -- ${h_s##*) }
case ${1-Z} in Z|X) continue;; esac
h_l="$h_l $h_q:$2:$3:${20}"
case $h_k$h_p in *" $h_q:${20} "*|*" $h_q "*) h_t="$h_t$h_q ";; esac
case $h_p in *" $3 "*) h_t="$h_t$h_q ";; esac
done
h_m=1
while [ "$h_m" = 1 ]; do
h_m=0
for h_x in $h_l; do
h_q=${h_x%%:*}; h_s=${h_x#*:}
case $h_t in *" $h_q "*) continue;; esac
case $h_t in *" ${h_s%%:*} "*) h_t="$h_t$h_q "; h_m=1;; esac
done
done
h_u=' '
for h_x in $h_l; do
h_q=${h_x%%:*}
case $h_t in *" $h_q "*) ;; *) continue;; esac
h_u="$h_u$h_q "
case $h_k in *" $h_q:${h_x##*:} "*) ;; *) h_k="$h_k$h_q:${h_x##*:} "; h_i=$((h_i+1));; esac
done
h_t=' ' h_m=1
while [ "$h_m" = 1 ]; do
h_m=0
for h_x in $h_l; do
h_q=${h_x%%:*} h_s=${h_x#*:}
case $h_t in *" $h_q "*) continue;; esac
case $h_u in *" $h_q "*) ;; *) continue;; esac
case $h_t in *" ${h_s%%:*} "*) ;; *) case $h_u in *" ${h_s%%:*} "*) continue;; esac;; esac
h_t="$h_t$h_q " h_m=1
done
done
}
h_send() {
for h_q in $h_p; do case $h_t in *" $h_q "*) kill "-$1" -- "-$h_q";; esac; done
for h_q in $h_t; do kill "-$1" "$h_q"; done
} 2>/dev/null
h_k=' ' h_i=0
)";

// TERM, the grace, KILL until two walks find nothing. Out: $h_t survivors, $h_i how many were met.
constexpr std::string_view kLadder = R"(h_walk
if [ "$h_g" -gt 0 ] && [ "$h_t" != ' ' ]; then
h_send TERM; h_send CONT
while [ "$h_g" -gt 0 ]; do
h_a=0
for h_q in $h_t; do kill -0 "$h_q" 2>/dev/null && h_a=1 && break; done
[ "$h_a" = 0 ] && break
if sleep 0.02 2>/dev/null; then h_g=$((h_g-22)); else sleep 1; h_g=$((h_g-1000)); fi
done
h_walk
fi
h_z=0 h_r=0
while :; do
if [ "$h_t" = ' ' ]; then h_z=$((h_z+1)); else h_z=0; h_send KILL; fi
h_r=$((h_r+1))
if [ "$h_z" -ge 2 ] || [ "$h_r" -ge 100 ]; then break; fi
[ "$h_t" = ' ' ] || sleep 0.01 2>/dev/null || sleep 1
h_walk
done
set -- $h_t
)";

std::string Targets(const LadderSpec& spec) {
  std::string text(kWalk);
  Append(&text, {"h_p=", Quote(spec.roots.empty() ? " " : spec.roots), " h_c=", Quote(spec.cookie),
                 " h_g=", std::to_string(spec.grace_ms), "\n"});
  return text;
}

// In: $h_o the reader's pid. Out: $h_p the command's shell, which is started by the one that waits
// for it below the reader.
constexpr std::string_view kFindLeader = R"(h_walk
h_y=' ' h_p=' '
for h_x in $h_l; do case $h_x in *:"$h_o":*:*) h_y="$h_y${h_x%%:*} ";; esac; done
for h_x in $h_l; do h_q=${h_x#*:}; case $h_y in *" ${h_q%%:*} "*) h_p="$h_p${h_x%%:*} ";; esac; done
h_k=' ' h_i=0
)";

// In: $h_f a file, which is removed before anything is written to a stream that may be broken;
// $HERMES_RUN_m the mark. Each line is one write that no other writer can split.
constexpr std::string_view kEmit =
    R"(if h_x=$(base64 <"$h_f" 2>/dev/null); then h_y=s; else h_x=$(od -An -v -tx1 <"$h_f" | tr -d ' '); h_y=h; fi
rm -f "$h_f"
for h_l in $h_x; do printf '%s\n' "$HERMES_RUN_m$h_y$h_l"; done
)";

// Not by `command -v`: busybox names itself without a path.
constexpr std::string_view kFindSh = R"(h_s=/bin/sh IFS=:
for h_d in $PATH; do if [ -x "$h_d/sh" ]; then h_s=$h_d/sh; break; fi; done
unset IFS
)";

// A login shell that hangs is ended after a while with all that it has started.
std::string GuardedLogin(std::string_view nonce) {
  std::string text = "h_b=$!\n( trap 'kill $!; exit' TERM; sleep 10 & wait $!; trap '' TERM\n";
  Append(&text, {Targets({.roots = "", .cookie = std::string(nonce)}), "h_p=\" $h_b \"\n", kLadder,
                 ") </dev/null >/dev/null 2>&1 7>&- &\nh_w=$!\nwait \"$h_b\"; kill \"$h_w\"\n"});
  return text;
}

std::string EndLines(std::string_view what) {
  std::string text;
  Append(&text, {"printf '%s\\n' \"${HERMES_RUN_m}", what, "\" >&2\n",
                 "printf '%s\\n' \"${HERMES_RUN_m}", what, "\""});
  return text;
}

std::string ExportLines(const EnvPairs& env) {
  std::string text;
  for (const auto& [name, value] : env) {
    Append(&text, {"export ", name, "=", Quote(value), " 2>/dev/null || :\n"});
  }
  return text;
}

// A shell that is told IFS at its start does not take it; one that exports it while it runs would.
bool IsForExport(const std::string& name, const std::string& value) {
  return shell::IsIdentifier(name) && name != "IFS" && value.find('\0') == std::string::npos;
}

EnvPairs Environment(const RunSpec& spec) {
  std::map<std::string, std::string> env = spec.state->env;
  for (const auto& [name, value] : spec.command->env) env[name] = value;
  for (const auto& [name, value] : spec.command->secret_env) env[name] = value;
  EnvPairs pairs;
  for (auto& [name, value] : env) {
    if (IsForExport(name, value)) pairs.emplace_back(name, std::move(value));
  }
  return pairs;
}

// Looks the program up as execvp does, so that a failure has a name before anything is started.
constexpr std::string_view kFindProgram = R"(h_r=notfound
case $1 in
*/*) if [ -x "$1" ] && [ ! -d "$1" ]; then h_r=; elif [ -e "$1" ]; then h_r=noexec; fi;;
?*) h_o=$IFS; IFS=:; set -f; for h_d in ${PATH-/usr/local/bin:/usr/bin:/bin}; do
h_d=${h_d:-.}/$1
if [ -x "$h_d" ] && [ ! -d "$h_d" ]; then h_r=; break; elif [ -f "$h_d" ]; then h_r=noexec; fi
done; IFS=$h_o; set +f;;
esac
)";

std::string ArgvText(const RunSpec& spec) {
  std::string text = ExportLines(Environment(spec));
  text += "set --";
  for (const std::string& argument : spec.command->argv) Append(&text, {" ", Quote(argument)});
  Append(&text, {"\n", kFindProgram, "printf '%s\\n' ", Quote(spec.start_mark),
                 "\"${h_r:-$$}\"\n[ -z \"$h_r\" ] || exit 127\nunset h_r h_o h_d\n",
                 "exec 8<&- 9<&-\nexec \"$@\"\n"});
  return text;
}

std::string ScriptText(const Far& far, const RunSpec& spec) {
  shell::Command command{.script = spec.command->script,
                         .cwd = "",
                         .env = Environment(spec),
                         .capture_path = spec.capture_path,
                         .nonce = spec.capture_nonce};
  std::string text = far.kind == Kind::kBash ? "\\builtin " : "\\command ";
  Append(&text, {"printf '%s%s\\n' ", Quote(spec.start_mark), " \"$$\"\n"});
  return text + shell::CommandText(far.kind, command);
}

// The command's shell itself may have lost the cookie: it is found by its pid.
std::string WatchdogText(Kind kind, const RunSpec& spec) {
  const int64_t ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(spec.command->run_timeout).count();
  if (ms <= 0) return {};
  std::string fraction = std::to_string(1000 + ms % 1000).substr(1);
  std::string exact = std::to_string(ms / 1000) + (ms % 1000 == 0 ? "" : "." + fraction);
  LadderSpec ladder;
  ladder.cookie = spec.cookie;
  ladder.grace_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(spec.command->kill_grace).count();
  std::string text = "trap 'kill $h_z; exit 3' TERM\nsleep " + exact + " & h_z=$!\n";
  Append(&text, {"wait $h_z || { sleep ", std::to_string((ms + 999) / 1000),
                 " & h_z=$!; wait $h_z; } || exit 3\ntrap '' TERM\n", Targets(ladder),
                 kind == Kind::kBash ? "h_p=\" $h_b \"\n" : kFindLeader, kLadder, "exit $((",
                 std::to_string(kWatchdogStatus), "+($#<", std::to_string(kMaxToldSurvivors),
                 "?$#:", std::to_string(kMaxToldSurvivors), ")))\n"});
  return text;
}

std::string EnterText(const RunSpec& spec) {
  std::string fail;
  Append(&fail, {"{ printf '%s\\n' ", Quote(spec.start_mark), kLaunchBadCwd, "; ",
                 EndLines("e126 0 0"), "; exit 126; }"});
  std::string text = "h_d=" + Quote(spec.cwd) + "\n";
  if (spec.nearest) {
    text +=
        "until cd -- \"$h_d\" 2>/dev/null; do case $h_d in /*/*) h_d=${h_d%/*};; *) cd /; break;; "
        "esac; done\n";
  } else {
    Append(&text, {"cd -- \"$h_d\" 2>/dev/null || ", fail, "\n"});
  }
  return text;
}

// The program that becomes the command's shell; its environment is told by the text on descriptor
// 8, so neither a value nor a script is in an argument.
std::string ShellProgram(const Far& far, const RunSpec& spec) {
  std::string text = "exec env -i PWD=\"$PWD\" ";
  Append(&text, {kCookieName, "=", spec.cookie, " ", Quote(far.shell_path)});
  Append(&text, {far.kind == Kind::kBash ? " --norc --noprofile" : "", " -c \"$HERMES_RUN_b\""});
  return text;
}

// Job control gives the command a group of its own and tells an exit from a signal: the shell's own
// notices are read back through a pipe. `wait` returns for a stopped job, too; `wait -f` does not,
// but may never return in bash 5.2.
std::string LaunchInBash(const Far& far, const RunSpec& spec) {
  const CommandSpec& command = *spec.command;
  std::string text =
      "exec 5<> <(:) 8< <(printf %s \"$HERMES_RUN_c\" 2>/dev/null) "
      "9< <(printf %s \"$HERMES_RUN_p\" 2>/dev/null)\n";
  Append(&text,
         {"exec 6<&0 </dev/null 4>&2 2>&5\nset -m\n( exec ",
          command.stdin_open ? "<&6 " : "</dev/null ", command.merge_stderr ? "2>&1 " : "2>&4 ",
          "4>&- 5<&- 6<&-; ", ShellProgram(far, spec), " ) & h_b=$!\nexec 6<&- 8<&- 9<&-\nh_w=\n"});
  Append(&text, {"[ -z \"$HERMES_RUN_w\" ] || { ( set +m; eval \"$HERMES_RUN_w\" ) </dev/null "
                 ">/dev/null 2>&1 4>&- 5<&- & h_w=$!; }\n"});
  Append(
      &text,
      {R"(while :; do wait "$h_b"; h_s=$?; [ "$h_s" -gt 128 ] && kill -0 "$h_b" || break; sleep 0.1; done
{ jobs; printf 'END\n'; } >&5
h_r=0; [ "$h_s" -le 128 ] || h_r=1
while IFS= read -r h_l <&5; do
case $h_l in END) break;; "[1]"?"  Exit "*|"[1]"?"  Done"*) h_r=0;; esac
done
exec 2>&4 4>&-
)"});
  return text;
}

// Without job control the command runs in the foreground, or the shell would ignore signals for it;
// what the shell says of its death is caught. It says nothing of SIGINT and SIGPIPE: then a missing
// capture tells.
std::string LaunchInSh(const Far& far, const RunSpec& spec) {
  const CommandSpec& command = *spec.command;
  std::string text;
  Append(&text,
         {"h_w= h_o=$$\nif [ -n \"$HERMES_RUN_w\" ]; then\n",
          far.setsid ? "h_o=$h_o HERMES_RUN_w=$HERMES_RUN_w setsid sh -c 'eval \"$HERMES_RUN_w\"'"
                     : "( eval \"$HERMES_RUN_w\" )",
          " </dev/null >/dev/null 2>&1 &\nh_w=$!\nfi\n"});
  text += "exec 8<<HERMES_END_OF_COMMAND\n$HERMES_RUN_c\nHERMES_END_OF_COMMAND\n";
  text += "exec 9<<HERMES_END_OF_PRELUDE\n$HERMES_RUN_p\nHERMES_END_OF_PRELUDE\n";
  std::string program = ShellProgram(far, spec);
  if (far.setsid) program.replace(0, 4, "exec setsid");
  Append(&text, {"exec 3>&1 4>&2\nh_r=$( { ( exec ", command.stdin_open ? "" : "</dev/null ",
                 ">&3 ", command.merge_stderr ? "2>&3 " : "2>&4 ", "3>&- 4>&-; ", program,
                 " ); printf '=%s' \"$?\"; } 2>&1 )\nexec 3>&- 4>&- 8<&- 9<&-\n"});
  // Without a status the one who waited was killed: the end is unknown.
  text += R"(case $h_r in *=*) ;; *) exit 1;; esac
h_s=${h_r##*=} h_r=${h_r%=*}
if [ -n "$h_r" ]; then h_r=1; else h_r=0; fi
case $h_s in 130|141) [ -z "$HERMES_RUN_f" ] || [ -s "$HERMES_RUN_f" ] || h_r=1;; esac
)";
  return text;
}

}  // namespace

std::string_view BootLine(Kind kind) {
  if (kind == Kind::kSh)
    // Some shells count characters: who finds fewer than there should be counts the bytes.
    return R"sh(sh -c 'IFS= read -r HERMES_RUN_n && HERMES_RUN_t=$(dd bs=1 count="$HERMES_RUN_n" 2>/dev/null) && { [ "${#HERMES_RUN_t}" = "$HERMES_RUN_n" ] || [ "$(printf %s "$HERMES_RUN_t" | wc -c)" -eq "$HERMES_RUN_n" ]; } && eval "$HERMES_RUN_t"')sh";
  return R"sh(bash --norc --noprofile -p -c 'IFS= read -r HERMES_RUN_n && LC_ALL=C IFS= read -r -N "$HERMES_RUN_n" HERMES_RUN_t && eval "$HERMES_RUN_t"')sh";
}

std::string Framed(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);  // `$(...)` would lose them
  std::string framed = std::to_string(text.size()) + "\n";
  framed.append(text);
  return framed;
}

std::string OpenText(Kind kind, std::string_view mark, std::string_view nonce, bool login) {
  const bool bash = kind == Kind::kBash;
  std::string text = "exec </dev/null 2>/dev/null\nHERMES_RUN_m=" + Quote(mark) + "\n";
  Append(&text, {bash ? "h_s=$BASH\n" : kFindSh,
                 R"(for h_d in "$XDG_RUNTIME_DIR" "$TMPDIR" /tmp /dev/shm "$HOME"; do
case $h_d in /*) ;; *) continue;; esac
h_f=$h_d/.hermes-)",
                 nonce, "\n( umask 077; set -C; : >\"$h_f\" ) && break\nh_d= h_f=\ndone\n"});
  Append(&text,
         {"[ -z \"$h_f\" ] || {\nexec 7>\"$h_f\"\nif [ -e /dev/fd/7 ]; then h_v=",
          Quote(shell::LoginCaptureText(kind, "/dev/fd/7", nonce)), "; else h_v=",
          Quote(shell::LoginCaptureText(kind, "/proc/self/fd/7", nonce)),  // small hosts
          "; fi\n\"$h_s\" ", login ? "-l -c " : "-c ", "\"$h_v\" </dev/null >/dev/null 2>&1 &\n",
          GuardedLogin(nonce), "exec 7>&-\n", kEmit, "rm -f \"$h_f\"\n}\n"});
  Append(&text,
         {R"(printf '%s\n' "${HERMES_RUN_m}b$h_d" "${HERMES_RUN_m}p$h_s" "${HERMES_RUN_m}d$PWD"
command -v setsid >/dev/null && printf '%s\n' "${HERMES_RUN_m}t1"
)",
          EndLines("e0 0 0")});
  return text;
}

std::string KillText(std::string_view mark, const LadderSpec& spec) {
  std::string text = "exec </dev/null 2>/dev/null\nHERMES_RUN_m=" + Quote(mark) + "\n";
  Append(&text, {Targets(spec), kLadder, "printf '%s\\n' \"${HERMES_RUN_m}k$h_i $# $*\"\n",
                 EndLines("e0 0 0")});
  return text;
}

std::string SignalText(std::string_view mark, const LadderSpec& spec, int signal, bool whole_tree) {
  std::string text = "exec </dev/null 2>/dev/null\nHERMES_RUN_m=" + Quote(mark) + "\n";
  Append(&text,
         {Targets(spec), "h_walk\n", whole_tree ? "" : "h_t=$h_p\n", "for h_q in $h_t; do kill -",
          std::to_string(signal), " \"$h_q\"; done\n", EndLines("e0 0 0")});
  return text;
}

std::string RunText(const Far& far, const RunSpec& spec) {
  const bool argv = !spec.command->argv.empty();
  // The first line is run before the next is read: long words are read in the C locale.
  std::string text = "LC_ALL=C\nunset HERMES_RUN_t\nHERMES_RUN_m=" + Quote(spec.end_mark) + "\n";
  Append(&text, {"printf '%s\\n' ", Quote(spec.start_mark), " >&2\n", EnterText(spec)});
  Append(&text,
         {"HERMES_RUN_f=", Quote(spec.capture_path), "\n",
          "[ -z \"$HERMES_RUN_f\" ] || ( umask 077; set -C; : >\"$HERMES_RUN_f\" ) 2>/dev/null\n"});
  Append(&text, {"HERMES_RUN_w=", Quote(WatchdogText(far.kind, spec)), "\n"});
  Append(&text, {"HERMES_RUN_p=", Quote(argv ? "" : shell::Prelude(far.kind, *spec.state, false)),
                 "\nHERMES_RUN_c=", Quote(argv ? ArgvText(spec) : ScriptText(far, spec)),
                 "\nHERMES_RUN_b=", Quote(shell::Boot(far.kind)), "\n"});
  text += far.kind == Kind::kBash ? LaunchInBash(far, spec) : LaunchInSh(far, spec);
  text += "h_v=0\n[ -z \"$h_w\" ] || { kill -TERM \"$h_w\"; wait \"$h_w\"; h_v=$?; } 2>/dev/null\n";
  Append(&text, {"if [ -n \"$HERMES_RUN_f\" ]; then\nh_f=$HERMES_RUN_f\n[ ! -s \"$h_f\" ] || {\n",
                 kEmit, "}\nrm -f \"$h_f\"\nfi\n", EndLines("e$h_s $h_r $h_v")});
  return text;
}

}  // namespace hermes::plain
