#include "backends/ssh/ssh_place.h"

#include <vector>

namespace hermes::ssh {
namespace {

// What both commands need. $1 directory. Directories in /tmp and the like carry the uid, because
// others may use them too; ours must be real directories of this account that nobody else can
// enter: own, which makes them if it is told to, and never goes through a link.
constexpr std::string_view kCommon =
    "PATH=$PATH:/usr/local/bin:/usr/bin:/bin; umask 077; i=$1 n=$2; u=$(id -u); c=$HOME/.cache; "
    "own() { [ -h \"$1\" ] && return 1; "
    "[ -d \"$1\" ] || { [ \"$2\" ] && mkdir \"$1\" 2>/dev/null; } || return 1; "
    "set -- $(ls -ldn \"$1\" 2>/dev/null); [ \"$3\" = \"$u\" ] || return 1; "
    "case $1 in drwx------*) return 0;; esac; return 1; }; "
    "at() { case $1 in \"\"|/.cache) return 1;; /var/tmp|/tmp|/dev/shm) r=$1/hermesd-$u;; "
    "*) r=$1/hermesd;; esac; s=$r/$i; [ ${#s} -le 88 ]; }; ";

// $2 nonce, $3 $4 digest and size for x86-64, $5 $6 for arm64, $7 not empty for a file service.
// Where a runner lives, there it is talked to, whatever has become of the directory. Else a file is
// executed there, and room for two programs is found, before anything is sent; a program that is
// there is believed by its digest, which it tells itself where nothing else can, and is as old as
// its last use: who puts another one there removes those that nobody has used for a month.
constexpr std::string_view kFindOrPut =
    "a=$(uname -sm); k=${a%% *} a=${a##* } w=- z=0; "
    "case $a in x86_64|amd64) w=$3 z=$4;; aarch64|arm64) w=$5 z=$6;; esac; "
    "good() { [ -f \"$1\" ] && [ -x \"$1\" ] || return 1; "
    "h=$({ sha256sum || openssl dgst -sha256 -r || shasum -a 256 || "
    "{ [ $(wc -c <\"$1\") -eq $z ] && \"$1\" digest; }; } 2>/dev/null <\"$1\"); "
    "case $h in $w*) ;; *) return 1;; esac; }; "
    "lives() { [ -S \"$s/s\" ] || return 1; "
    "case $(cat /proc/net/unix 2>/dev/null) in *\" $s/s\"*) return 0;; esac; return 1; }; "
    "t=none; q=\"no directory where programs may run and are given room\"; "
    "[ \"$k\" = Linux ] || w=-; [ \"$w\" = - ] && q=\"no hermes-runner for $k on $a\"; "
    "o=; for d in \"$c\" /var/tmp /tmp /dev/shm \"$XDG_RUNTIME_DIR\"; do "
    "at \"$d\" && lives && own \"$r\" && own \"$s\" && { o=$d; break; }; done; "
    "[ \"$w\" = - ] || "
    "for d in \"$o\" \"$c\" /var/tmp /tmp /dev/shm \"$XDG_RUNTIME_DIR\"; do at \"$d\" || continue; "
    "m=; [ -d \"$d\" ] || { [ \"$d\" = \"$c\" ] && mkdir \"$d\" 2>/dev/null && m=1; } || continue; "
    "own \"$r\" 1 && own \"$r/bin\" 1 && own \"$s\" 1 || continue; "
    "[ \"$m\" ] && mkdir \"$r/made\"; "
    "b=$r/bin/$(printf %.16s \"$w\"); f=$r/bin/x$$ g=$s/room x=7 y=$((2*z)) e=put; "
    "if good \"$b\"; then e=run y=4096; else "
    "{ echo exit 7 >\"$f\" && chmod 700 \"$f\" && \"$f\"; } 2>/dev/null; x=$?; rm -f \"$f\"; fi; "
    "[ $x = 7 ] && if [ \"$d\" = \"$o\" ]; then x=0; else "
    "{ printf %${y}s x >\"$g\"; } 2>/dev/null; x=$?; { : >\"$g\"; } 2>/dev/null; fi; "
    "[ $x = 0 ] && { t=$e q=$s; break; }; rm -f \"$g\"; "
    "rmdir \"$s\" \"$r/bin\" ${m:+\"$r/made\"} \"$r\" ${m:+\"$d\"} 2>/dev/null; done; "
    "p=; for l in bash setsid tar rsync git sudo python3; do "
    "command -v $l >/dev/null 2>&1 && p=$p,$l; done; "
    "echo; echo \"@$n:$t:$a:$k:$p:$SHELL:$q\"; [ $t = none ] && exit 0; "
    "if [ $t = put ]; then f=$b.$$; "
    "if command -v head >/dev/null 2>&1; then head -c $z >\"$f\"; "
    "else dd bs=1 count=$z of=\"$f\" 2>/dev/null; fi; "
    "chmod 700 \"$f\" && good \"$f\" && mv -f \"$f\" \"$b\" || "
    "{ rm -f \"$f\"; echo \"@$n:bad\"; exit 0; }; "
    "echo \"@$n:ok\"; for f in \"$r\"/bin/*; do [ \"$f\" = \"$b\" ] || "
    "{ find \"$r/bin\" -type f -mtime +30 -exec rm -f {} + 2>/dev/null; break; }; done; "
    "else touch \"$b\" 2>/dev/null; fi; [ \"$7\" ] && exec \"$b\" files 2>/dev/null; exec \"$b\" "
    "connect "
    "\"$s\" 2>/dev/null";

// Where no session has state any more, the runner is asked to end and what was made is removed: of
// a place that two daemons share, our part.
constexpr std::string_view kLeave =
    "for d in \"$c\" /var/tmp /tmp /dev/shm \"$XDG_RUNTIME_DIR\"; do "
    "at \"$d\" && own \"$r\" && own \"$s\" || continue; "
    "set -- \"$s\"/state/*; [ -e \"$1\" ] && continue; "
    "if [ -e \"$s/lock\" ]; then x=1; for b in \"$r\"/bin/*; do "
    "\"$b\" leave \"$s\" 2>/dev/null && x=0 && break; done; [ $x = 0 ] || continue; fi; "
    "rm -rf \"$s\"; "
    "x=; for f in \"$r\"/*; do case $f in \"$r/bin\"|\"$r/made\") ;; *) x=1;; esac; done; "
    "[ \"$x\" ] && continue; m=; [ -e \"$r/made\" ] && m=1; "
    "rm -rf \"$r\"; [ \"$m\" ] && rmdir \"$d\" 2>/dev/null; done; exit 0";

constexpr size_t kMaxWord = 256;  // bytes of a field of the answer; the rest is dropped
constexpr size_t kFields = 6;

void AddProgram(const Program& program, std::string* to) {
  *to +=
      program.sha256.empty() ? " - 0" : " " + program.sha256 + " " + std::to_string(program.bytes);
}

// What is shown to people and written to logs.
std::string Clean(std::string_view text) {
  std::string clean(text.substr(0, kMaxWord));
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  }
  return clean;
}

std::string Line(std::string_view script) {
  return "sh -c '" + std::string(kCommon) + std::string(script) + "'";
}

std::optional<std::string_view> Marked(std::string_view line, std::string_view nonce) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  if (!line.starts_with('@')) return std::nullopt;
  line.remove_prefix(1);
  if (!line.starts_with(nonce)) return std::nullopt;
  line.remove_prefix(nonce.size());
  if (!line.starts_with(':')) return std::nullopt;
  return line.substr(1);
}

}  // namespace

std::string PlaceCommand(const PlaceQuestion& question) {
  std::string command = Line(kFindOrPut) + " hermes " + question.directory + " " + question.nonce;
  AddProgram(question.x86_64, &command);
  AddProgram(question.aarch64, &command);
  return question.files ? command + " files" : command;
}

std::string LeaveCommand(const std::string& directory) {
  return Line(kLeave) + " hermes " + directory;
}

std::optional<PlaceAnswer> ParsePlaceAnswer(std::string_view line, std::string_view nonce) {
  std::optional<std::string_view> rest = Marked(line, nonce);
  if (!rest) return std::nullopt;
  std::vector<std::string> fields;
  while (fields.size() + 1 < kFields) {
    const size_t colon = rest->find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    fields.push_back(Clean(rest->substr(0, colon)));
    rest->remove_prefix(colon + 1);
  }
  PlaceAnswer answer;
  if (fields[0] == "run") {
    answer.verdict = PlaceAnswer::Verdict::kRun;
  } else if (fields[0] == "put") {
    answer.verdict = PlaceAnswer::Verdict::kPut;
  } else if (fields[0] != "none") {
    return std::nullopt;
  }
  answer.arch = fields[1];
  answer.os = fields[2];
  answer.tools = fields[3].starts_with(',') ? fields[3].substr(1) : fields[3];
  answer.shell = fields[4];
  answer.text = Clean(*rest);
  return answer;
}

std::optional<bool> ParsePutAnswer(std::string_view line, std::string_view nonce) {
  const std::optional<std::string_view> rest = Marked(line, nonce);
  if (rest == "ok") return true;
  if (rest == "bad") return false;
  return std::nullopt;
}

}  // namespace hermes::ssh
