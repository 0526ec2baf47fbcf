#include <algorithm>
#include <ctime>
#include <map>
#include <set>

#include "daemon/runtime/check.h"
#include "sync/shell_tree.h"
#include "sync/shell_words.h"

namespace hermes::sync {
namespace {

// The stage is below the root, so that placing is a rename.
constexpr std::string_view kStart = R"sh(
for h_i in tar paste mkdir mv rm; do command -v $h_i >/dev/null || h_fail notools $h_i; done
h_room() { case $1 in *"No space left"*|*"uota exceeded"*) h_fail nospace "$1";; esac; }
h_r=$(mkdir -p "$h_w" 2>&1) || { h_room "$h_r"; h_fail noroot "$h_r"; }
)sh";
constexpr std::string_view kStage = R"sh(
h_r=$(umask 077; mkdir "$h_s" 2>&1) || { h_room "$h_r"; h_fail noroot "$h_r"; }
trap 'rm -rf "$h_s"' EXIT
trap 'exit 1' HUP INT TERM PIPE
printf '%s h B 1 %s\n' "$h_m" "${h_o:--}"
h_t=$(cd "$h_s" && tar -xof - 2>&1)
h_tar=$?
h_room "$h_t"
[ -f "$h_s/apply" ] && touch "$h_s/apply" && . "$h_s/apply"
h_fail failed "the request was cut short: $h_t"
)sh";

// Who does it. "gone" and "plan" are read several times, with other meanings of their words:
//   d DIR [1]             the directory of the changes that follow; 1: it may become empty
//   r INDEX NAME HASH     deletes a file that has this hash
//   w INDEX NAME HASH NEW places a file where there is none, or one of the first hash
//   b INDEX NAME          is not placed;  k_ FROM NAME MODE TIME: has the bytes of another one
// A hash has an x or - behind it; 0: none. What is there is hashed in one go: "have" are its names,
// "cmp" what it is compared for, "go" the indices of those that may be touched, in order. What was
// saved since "have" was closed may not be what was hashed; where a clock runs ahead ($h_z) that
// cannot be seen.
constexpr std::string_view kApply = R"sh(set -f
exec 2>"$h_s/err"
h_x=' ' h_z=' ' h_bad= h_a= h_td=
h_say() { printf '%s %s\n' "$1" "$2"; h_x="$h_x$2 "; }
h_flush() {
[ -n "$h_a" ] || return 0
if [ "$h_td" = rm ]; then rm -f -- $h_a; else mv -f -- $h_a "$h_td/"; fi || h_bad=1
h_a=
}
h_add() {
if [ "$h_td" != "$1" ] || [ "${#h_a}" -gt 60000 ]; then h_flush; h_td=$1; fi
h_a="$h_a
$2"
}
h_place() { h_add "${1%/*}" "$h_s/t/${1#./}"; }
h_dir() {
case $1/ in "$h_v"/*) return 1;; esac
h_v=/ h_b=
if [ -L "$1" ]; then h_b=l; elif [ -d "$1" ]; then :; elif [ -e "$1" ]; then h_b=c; else h_b=m; fi
[ -z "$h_b" ] || h_v=$1
}
h_ask() {
if [ -L "$2" ] || [ ! -f "$2" ]; then h_say c "$1"; return; fi
if [ ! -r "$2" ]; then h_say f "$1"; return; fi
h_y=-; [ -x "$2" ] && h_y=x
[ "$2" -nt "$h_s/apply" ] && h_z="$h_z$1 "
printf '%s\0' "$2" >&4
printf 'k %s %s %s %s\n' "$1" "$3" "${4:-0}" "$h_y" >&5
}
k() {
case $5$4 in "$3") h_x="$h_x$1 ";; "$2") printf '%s\n' "$1" >&6;; *) h_say c "$1";; esac
}
h_read() {
h_v=/ h_b=
exec 4>"$h_s/have" 5>"$h_s/cmp"
. "$h_s/$1"
h_flush
exec 4>&- 5>&-
[ -s "$h_s/have" ] || return 1
h_sums <"$h_s/have" | sed 's/^\\\{0,1\}\([0-9a-f]*\).*/\1/' >"$h_s/hash"
set -- $(wc -l <"$h_s/cmp") $(wc -l <"$h_s/hash")
[ "$(($1))" -eq "$(($2))" ] || h_fail failed "files change while they are compared"
paste -d ' ' "$h_s/cmp" "$h_s/hash" >"$h_s/run"
exec 6>"$h_s/go"; . "$h_s/run"; exec 6>&-
}
h_next() { IFS= read -r h_g <&6 || h_g=; }
h_saved() {
case $h_z in *" $1 "*) return 1;; esac
[ "$2" -nt "$h_s/have" ] && h_say c "$1"
}
h_again() {
exec 6<"$h_s/go"
h_next
. "$h_s/$1"
exec 6<&-
h_flush
}
h_gone() {
h_rd=
d() { h_dir "$1" && [ -z "$h_b" ] && [ -n "$2" ] && h_rd="$1
$h_rd"; }
r() {
if [ "$h_b" = l ]; then h_say c "$1"; elif [ -z "$h_b" ]; then
if [ -e "$2" ] || [ -L "$2" ]; then h_ask "$@"; fi; fi
}
if h_read gone; then
d() { :; }
r() { if [ "$1" = "$h_g" ]; then h_saved "$@" || h_add rm "$2"; h_next; fi; }
h_again gone
printf %s "$h_rd" | tr '\n' '\0' | xargs -r -0 rmdir
fi
[ -n "$h_bad" ] || return 0
h_v=/ h_b=
d() { h_dir "$1"; }
r() {
case $h_x in *" $1 "*) return;; esac
if [ -z "$h_b" ] && [ -e "$2" ]; then h_say f "$1"; fi
}
. "$h_s/gone"
}
h_good() {
h_i=$( (cd "$h_s/t" && find . -type f | sort | h_lines) | h_sum)
[ "$h_tar" -eq 0 ] && [ "${h_i%% *}" = "$h_whole" ]
}
h_plan() {
d() { :; }; w() { :; }
b() { h_say f "$1"; rm -f "$h_s/t/$2"; }
k_() { mkdir -p "$h_s/t/${2%/*}"; cp "$h_s/t/$1" "$h_s/t/$2" && chmod "$3" "$h_s/t/$2"
[ -z "$4" ] || TZ=UTC0 touch -t "$4" "$h_s/t/$2"; }
. "$h_s/plan"
b() { :; }; k_() { :; }
if ! h_good; then
w() {
h_i=-; [ -x "$h_s/t/${2#./}" ] && h_i=x
h_i=$(h_sum <"$h_s/t/${2#./}" | sed 's/ .*//')$h_i
[ "$h_i" = "$4" ] || { h_say f "$1"; rm -f "$h_s/t/${2#./}"; }
}
. "$h_s/plan"
fi
}
h_write() {
d() { h_dir "$1" && [ "$h_b" = m ] && h_place "$1"; }
w() {
case $h_x in *" $1 "*) return;; esac
case $h_b in m) return;; l|c) h_say c "$1"; return;; esac
if [ -e "$2" ] || [ -L "$2" ]; then h_ask "$@"; else h_place "$2"; fi
}
if h_read plan; then
d() { :; }
w() { if [ "$1" = "$h_g" ]; then h_saved "$@" || h_place "$2"; h_next; fi; }
h_again plan
fi
[ -n "$h_bad" ] || return 0
w() {
case $h_x in *" $1 "*) return;; esac
if [ -e "$h_s/t/${2#./}" ]; then h_say f "$1"; fi
}
. "$h_s/plan"
}
h_token() {
[ -n "$h_e" ] && [ "$h_o" != "$h_e" ] && [ ! -d "$h_n" ] || return 0
(umask 077; printf '%s\n' "$h_e" >"$h_s/epoch") && mv -f "$h_s/epoch" "$h_n"
}
h_old() {
set +f
for h_i in ./.hermesd-stage-*; do
[ "$h_i" = "$h_s" ] || [ ! -d "$h_i" ] || find "$h_i" -prune -mtime +0 -exec rm -rf {} +
done
set -f
}
h_none() {
h_i=0
while [ "$h_i" -lt "$h_c" ]; do h_say f "$h_i"; h_i=$((h_i+1)); done
}
h_all() {
if [ -n "$h_q" ] && [ "$h_q" != "$h_o" ]; then h_none; else
[ ! -f "$h_s/plan" ] || h_plan
h_token
[ ! -f "$h_s/gone" ] || h_gone
[ ! -f "$h_s/plan" ] || h_write
fi
h_old
printf 'P\n'
if [ -n "$h_bad" ]; then
h_i=$(dd bs=4000 count=1 <"$h_s/err")
printf 't %s\n%s' "$(($(printf %s "$h_i" | wc -c)))" "$h_i"
fi
rm -rf "$h_s"
trap - EXIT
printf '%s e\n' "$h_m"
exit 0
}
h_all
)sh";

// A file's name as it is sorted here: the files of a directory before the directories below it.
struct Place {
  std::vector<std::string_view> directories;
  std::string_view leaf;
  auto operator<=>(const Place&) const = default;
};

std::string HashWord(const MaybeContent& content) {
  return content ? Hex(content->digest) + (content->executable ? "x" : "-") : "0";
}

// As `touch -t` reads it.
std::string TouchWord(int64_t mtime_ns) {
  const time_t seconds = mtime_ns / 1'000'000'000;
  tm utc;
  gmtime_r(&seconds, &utc);
  char text[32];
  strftime(text, sizeof(text), " %Y%m%d%H%M.%S", &utc);
  return text;
}

bool Placeable(const ShellBlob& blob) {
  return blob.fate == ShellBlob::Fate::kSent || blob.fate == ShellBlob::Fate::kCopied;
}

// Says which directory follows, and those above it that were not said yet.
class Directories {
 public:
  explicit Directories(std::set<std::string, std::less<>> kept) : kept_(std::move(kept)) {}

  void Enter(std::string_view parent, std::string* text) {
    if (parent == last_ && begun_) return;
    begun_ = true;
    last_ = parent;
    if (parent.empty()) {
      text->append("d .\n");
      return;
    }
    for (size_t end = parent.find('/');; end = parent.find('/', end + 1)) {
      const std::string_view directory = parent.substr(0, end);
      if (said_.insert(std::string(directory)).second || end == parent.npos) {
        const std::string_view flag = kept_.contains(directory) ? "\n" : " 1\n";
        Append(text, {"d ", ShellQuote("./" + std::string(directory)), flag});
      }
      if (end == parent.npos) break;
    }
  }

 private:
  const std::set<std::string, std::less<>> kept_;  // never to be removed
  std::set<std::string> said_;
  std::string last_;
  bool begun_ = false;
};

Place PlaceOf(const RelPath& path) {
  std::vector<std::string_view> parts = path.parts();
  const std::string_view leaf = parts.back();
  parts.pop_back();
  return {std::move(parts), leaf};
}

// Directories that get a file are not removed in between: they would come back with another mode.
std::set<std::string, std::less<>> DirectoriesOf(const std::vector<RemoteChange>& changes) {
  std::set<std::string, std::less<>> all;
  for (const RemoteChange& change : changes) {
    if (!change.wanted) continue;
    std::string_view directory = change.path.parent();
    while (!directory.empty() && all.insert(std::string(directory)).second) {
      const size_t slash = directory.rfind('/');
      directory = slash == directory.npos ? "" : directory.substr(0, slash);
    }
  }
  return all;
}

// Indices of the changes that `take` takes, as directories are walked.
template <typename Take>
std::vector<size_t> Sorted(const std::vector<RemoteChange>& changes, Take take) {
  std::vector<std::pair<Place, size_t>> places;
  for (size_t i = 0; i < changes.size(); ++i) {
    if (take(i)) places.emplace_back(PlaceOf(changes[i].path), i);
  }
  std::sort(places.begin(), places.end());
  std::vector<size_t> indices;
  for (const auto& [place, index] : places) indices.push_back(index);
  return indices;
}

std::string GoneText(const std::vector<RemoteChange>& changes) {
  std::string text;
  Directories directories(DirectoriesOf(changes));
  for (size_t i : Sorted(changes, [&](size_t i) { return !changes[i].wanted; })) {
    const RemoteChange& change = changes[i];
    directories.Enter(change.path.parent(), &text);
    Append(&text, {"r ", std::to_string(i), " ", ShellQuote("./" + change.path.str()), " ",
                   HashWord(change.expected), "\n"});
  }
  return text;
}

std::string PlanText(const RemoteApply& apply, std::span<const ShellBlob> blobs) {
  const std::vector<RemoteChange>& changes = apply.changes;
  const std::string_view modes[] = {apply.secret ? "600" : "644", apply.secret ? "700" : "755"};
  FileMap staged;
  std::string text;
  for (size_t i = 0; i < changes.size(); ++i) {
    const std::string& name = changes[i].path.str();
    if (blobs[i].fate == ShellBlob::Fate::kBad)
      Append(&text, {"b ", std::to_string(i), " ", ShellQuote(name), "\n"});
    if (blobs[i].fate == ShellBlob::Fate::kCopied)
      Append(&text,
             {"k_ ", ShellQuote(changes[blobs[i].from].path.str()), " ", ShellQuote(name), " ",
              modes[changes[i].wanted->executable], TouchWord(changes[i].mtime_ns), "\n"});
    if (Placeable(blobs[i])) staged.emplace(changes[i].path, Content{changes[i].wanted->digest});
  }
  Directories directories({});
  for (size_t i : Sorted(changes, [&](size_t i) { return Placeable(blobs[i]); })) {
    const RemoteChange& change = changes[i];
    directories.Enter(change.path.parent(), &text);
    Append(&text, {"w ", std::to_string(i), " ", ShellQuote("./" + change.path.str()), " ",
                   HashWord(change.expected), " ", HashWord(change.wanted), "\n"});
  }
  // The canonical text begins with the separator that follows executable files.
  const std::string lines = CanonicalText(staged).substr(2);
  return text + "h_whole=" + Hex(DigestOf(lines)) + "\n";
}

}  // namespace

std::string ShellApplyText(std::string_view mark, const RemoteApply& apply,
                           std::string_view nonce) {
  std::string text = ShellPrelude(mark) + ShellRoot(apply.root);
  Append(&text, {"h_s=./.hermesd-stage-", nonce, " h_e=", ShellQuote(apply.epoch),
                 " h_q=", ShellQuote(apply.known_epoch),
                 " h_c=", std::to_string(apply.changes.size()), "\numask ",
                 apply.secret ? "077" : "022", kStart, kEnterRoot, ShellEpoch(apply.root), kStage});
  return text;
}

std::vector<ShellMember> ShellApplyMembers(const RemoteApply& apply,
                                           std::span<const ShellBlob> blobs) {
  CHECK(blobs.size() == apply.changes.size());
  std::vector<ShellMember> members;
  const std::string gone = GoneText(apply.changes);
  if (!gone.empty()) members.push_back({"gone", gone});
  members.push_back({"plan", PlanText(apply, blobs)});
  members.push_back({"apply", std::string(kApply)});
  return members;
}

}  // namespace hermes::sync
