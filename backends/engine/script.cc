#include "backends/engine/script.h"

#include <initializer_list>

namespace hermes::shell {
namespace {

void Append(std::string* text, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts) text->append(part.data(), part.size());
}

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

// How each shell is told to use its own command, whatever functions and aliases the user has.
std::string_view Own(Kind kind) { return kind == Kind::kBash ? "\\builtin " : "\\command "; }

// Nothing of ours may show in the output: no trace line, no DEBUG trap's text, no error. The
// redirection word expands to nothing but notes the status of what ran before; being an expansion
// it cannot be traced, and it works even where the descriptor to save stderr in cannot be had.
// XFSZ: with a file size limit of the user's, writing must fail instead of killing the shell.
std::string_view Silence(Kind kind) {
  if (kind == Kind::kSh)
    return R"({ \command trap '' XFSZ; \set +xv; } >/dev/null"${?#${HERMES_RUN_r:=$?}}" 2>&1 || \command :; )";
  return R"({ \unset -f builtin; \builtin trap - DEBUG; \builtin trap '' XFSZ; )"
         R"(\builtin shopt -u expand_aliases; \builtin set +xv; } )"
         R"(>/dev/null"${?#${HERMES_RUN_r:=$?}}" 2>&1 || \builtin :; )";
}

// Writes one capture, if none was written before. Each part only after the last one succeeded, so
// that a full disk can never leave a gap before the trailer. No fork, and nothing that `set -eufk`,
// noclobber, IFS, POSIX mode or user functions and aliases could change.
std::string CaptureOnce(Kind kind, std::string_view path, std::string_view nonce) {
  std::string own(Own(kind));
  std::string mark = Quote(nonce);
  std::string_view zero = "printf '\\0' && ";
  std::string text;
  Append(&text, {"case ${HERMES_RUN_d-} in '') HERMES_RUN_d=1; { ", own, "printf '%s\\0' ", mark,
                 " && ", own, "export -p && ", own, zero});
  if (kind == Kind::kSh) {
    Append(&text, {own, "readonly -p && ", own, zero});
  } else {
    for (std::string_view listing : {"declare -F && ", "declare -f && ", "alias -p && "})
      Append(&text, {own, listing, own, zero});
  }
  Append(&text, {own, "pwd && ", own, "printf '\\0%s\\0' ", mark, "; } 2>/dev/null >|", Quote(path),
                 " || ", own, ":;; esac"});
  return text;
}

// Sets the variables and the directory of a shell that was started ahead. OLDPWD stays what it was:
// a shell started in that directory would not have touched it.
std::string Enter(Kind kind, const Command& command) {
  std::string text;
  std::string_view own = Own(kind);
  for (const auto& [name, value] : command.env) {
    if (!IsIdentifier(name) || HasNul(value)) continue;
    Append(&text, {own, "export ", name, "=", Quote(value), " 2>/dev/null || ", own, ":; "});
  }
  if (command.ahead && kind == Kind::kBash) Append(&text, {"SECONDS=0; "});
  if (command.cwd.empty()) return text;
  // Neither an option, nor "-", nor looked up in CDPATH.
  std::string_view here = command.cwd.starts_with('/') ? "" : "./";
  std::string cwd(here);
  cwd.append(command.cwd.data(), command.cwd.size());
  Append(&text, {"HERMES_RUN_o=${OLDPWD-}; ", own, "cd ", Quote(cwd), " 2>/dev/null || ", own,
                 "exit 126; OLDPWD=$HERMES_RUN_o; case $OLDPWD in '') ", own, "unset OLDPWD; "});
  if (kind == Kind::kBash)
    Append(&text, {own, "export OLDPWD; "});  // as bash starts: exported, unset
  Append(&text, {";; esac; ", own, "unset HERMES_RUN_o; "});
  return text;
}

constexpr std::string_view kStartPrefixes[] = {"BASH", "LC_", "LD_", "MALLOC_", "HERMES_RUN_"};
constexpr std::string_view kStartNames[] = {"COMP_WORDBREAKS",
                                            "COPROC",
                                            "DIRSTACK",
                                            "EPOCHREALTIME",
                                            "EPOCHSECONDS",
                                            "EUID",
                                            "EXECIGNORE",
                                            "FUNCNAME",
                                            "FUNCNEST",
                                            "GCONV_PATH",
                                            "GLIBC_TUNABLES",
                                            "GLOBIGNORE",
                                            "GROUPS",
                                            "HISTCMD",
                                            "IFS",
                                            "IGNOREEOF",
                                            "LANG",
                                            "LANGUAGE",
                                            "LINENO",
                                            "LOCPATH",
                                            "MAILCHECK",
                                            "NLSPATH",
                                            "OLDPWD",
                                            "OPTARG",
                                            "OPTERR",
                                            "OPTIND",
                                            "PIPESTATUS",
                                            "POSIXLY_CORRECT",
                                            "POSIX_PEDANTIC",
                                            "PPID",
                                            "PS0",
                                            "PS1",
                                            "PS2",
                                            "PS3",
                                            "PS4",
                                            "PWD",
                                            "RANDOM",
                                            "SECONDS",
                                            "SHELLOPTS",
                                            "SHLVL",
                                            "SRANDOM",
                                            "TMOUT",
                                            "UID",
                                            "histchars",
                                            "ignoreeof",
                                            "_"};

// Bash names that a function can have and that keep the text around them what it is.
bool IsFunctionName(std::string_view name) {
  constexpr std::string_view kBreaking = " \t\n|&;()<>'\"$`\\";
  return !name.empty() && !HasNul(name) && name.find_first_of(kBreaking) == std::string_view::npos;
}

// The definition of a function in the one form that works for every name; empty: not one.
std::string Definition(std::string_view name, std::string_view body) {
  constexpr std::string_view kKeyword = "function ";
  if (!IsFunctionName(name) || IsReservedFunction(name) || HasNul(body)) return {};
  std::string text;
  if (!body.starts_with(kKeyword)) text = std::string(kKeyword);
  text.append(body.data(), body.size());
  std::string_view rest = std::string_view(text).substr(kKeyword.size());
  if (!rest.starts_with(name) || !rest.substr(name.size()).starts_with(" () \n")) return {};
  return text;
}

void AppendFunctions(const State& state, std::string* text) {
  if (state.functions.empty()) return;
  // A body with extended patterns parses only with extglob on; it changes no other printed body.
  text->append("\\builtin shopt -q extglob || HERMES_RUN_e=1\n\\builtin shopt -s extglob\n");
  for (const auto& [name, function] : state.functions) {
    std::string definition = Definition(name, function.body);
    if (definition.empty()) continue;
    // Through eval: whatever a body is, it ends nowhere but at its own end.
    Append(text, {"\\builtin eval ", Quote(definition), "\n"});
    if (function.exported) Append(text, {"\\builtin declare -fx -- ", Quote(name), "\n"});
  }
  text->append(
      "case ${HERMES_RUN_e-} in 1) \\builtin shopt -u extglob; \\builtin unset HERMES_RUN_e;; "
      "esac\n");
}

void AppendAliases(const State& state, std::string* text) {
  for (const auto& [name, value] : state.aliases) {
    if (!IsFunctionName(name) || name.find_first_of("=/") != std::string_view::npos) continue;
    if (HasNul(value)) continue;
    std::string word = name;
    Append(&word, {"=", value});
    Append(text, {"\\builtin alias -- ", Quote(word), "\n"});
  }
}

}  // namespace

// `builtin exec` would undo its redirections, so it is `command exec`: the one thing of ours that
// runs where user functions exist and cannot go through `builtin`. The command text is read in the
// C locale, where bash takes a long word of many quoted parts in linear time. Small hosts without
// bash may have no /dev/fd.
std::string_view Boot(Kind kind) {
  if (kind == Kind::kSh)
    return R"(if [ -e /dev/fd/9 ]; then . /dev/fd/9; . /dev/fd/8; else . /proc/self/fd/9; )"
           R"(. /proc/self/fd/8; fi; exec 8<&- 9<&-; eval "$HERMES_RUN_t")";
  return R"(\builtin shopt -u expand_aliases; \builtin . /dev/fd/9 2>/dev/null; )"
         R"(LC_ALL=C \builtin . /dev/fd/8; \command exec 8<&- 9<&-; )"
         R"(\builtin eval "$HERMES_RUN_t")";
}

std::string Prelude(Kind kind, const State& state, bool sudo_askpass) {
  std::string text;
  if (kind == Kind::kBash) AppendFunctions(state, &text);
  if (sudo_askpass && (kind == Kind::kSh || !state.functions.contains("sudo")))
    Append(&text, {"sudo() { command sudo -A \"$@\"; }\n"});
  if (kind == Kind::kBash) AppendAliases(state, &text);
  return text;
}

std::string_view ReadyLine(Kind kind) {
  if (kind == Kind::kSh) return "\\command echo >&7; \\command exec 7>&-\n";
  return "\\builtin echo >&7; \\command exec 7>&-\n";
}

bool CanBeSetLater(std::string_view name) {
  for (std::string_view prefix : kStartPrefixes)
    if (name.starts_with(prefix)) return false;
  for (std::string_view known : kStartNames)
    if (name == known) return false;
  return IsIdentifier(name);
}

bool CanWait(std::string_view name) {
  return !name.starts_with("BASH") && name != "SHELLOPTS" && name != "SECONDS" &&
         !name.starts_with("HERMES_RUN_");
}

// The text only assigns: what it assigns runs from the boot's eval, outside of any sourced file,
// and unsets its own variable first, so to the script nothing of this exists. Bash has the script
// itself where `bash -c` has it too.
std::string CommandText(Kind kind, const Command& command) {
  bool bash = kind == Kind::kBash;
  std::string_view own = Own(kind);
  std::string capture;
  if (!command.capture_path.empty()) {
    capture = std::string(Silence(kind));
    capture += CaptureOnce(kind, command.capture_path, command.nonce);
  }
  // One line: parsed as a whole while aliases are off, and the script's lines count from 1.
  std::string run;
  Append(&run, {own, "unset HERMES_RUN_t; ", Enter(kind, command)});
  if (!capture.empty()) Append(&run, {own, "trap ", Quote(capture), " EXIT; "});
  if (bash)
    Append(&run, {own, "shopt -s expand_aliases; ", own, ": \"$BASH\"; ",  // $_ as bash -c has it
                  own, "eval \"$BASH_EXECUTION_STRING\""});
  else
    Append(&run, {own, "eval ", Quote(command.script)});
  // The user's own EXIT trap, if any, runs after this, from `exit`.
  if (!capture.empty()) Append(&run, {"; ", capture, "; ", own, "exit \"$HERMES_RUN_r\""});

  std::string text;
  if (bash) Append(&text, {"BASH_EXECUTION_STRING=", Quote(command.script), "\n"});
  Append(&text, {"HERMES_RUN_t=", Quote(run), "\n"});
  return text;
}

std::string LoginCaptureText(Kind kind, std::string_view capture_path, std::string_view nonce) {
  std::string text(Silence(kind));
  text += CaptureOnce(kind, capture_path, nonce);
  return text;
}

}  // namespace hermes::shell
