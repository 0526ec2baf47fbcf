#include "sync/shell_tree.h"

#include "sync/ignore.h"
#include "sync/shell_words.h"

namespace hermes::sync {
namespace {

// One walk finds everything. Files come as lines into $h_l, "0" before the name of an executable
// one; what is odd goes straight into the answer, on descriptor 3. What find itself says is among
// the lines: whatever is neither forbidden nor gone is trouble, for what it hides is not gone.
constexpr std::string_view kWalk = R"sh(
printf 's%s\n' "$?" ) | sort )
h_r=$(printf '%s\n' "$h_l" | sed -e '/^[01]\.\//d' -e '/^find: .*: Permission denied$/d' \
-e '/^find: .*: No such file or directory$/d')
case $h_r in s0|s1|s123) ;; *) h_fail failed "$h_r";; esac
if [ "$h_r" != s0 ]; then
h_find -type d -exec sh -c 'printf "o u\n"; for f do
if [ ! -r "$f" ] || [ ! -x "$f" ]; then printf "%s\0" "$f"; fi; done; printf "\0"' sh {} + >&3
fi
)sh";

// A name that has no line was not read: it is gone, or it could not be.
constexpr std::string_view kDigests = R"sh(
h_t=$(printf '%s\n' "$h_l" | sed -n 's/^0//p' | h_lines
printf '%s\n' -
printf '%s\n' "$h_l" | sed -n 's/^1//p' | h_lines)
set -- $(printf '%s\n' "$h_t" | wc -l) $(printf '%s\n' "$h_t" | wc -c) \
$(printf '%s\n' "$h_l" | sed -n '/^[01]\.\//p' | wc -l)
if [ "$(($1))" -ne "$(($3+1))" ]; then
printf 'o u\n'
{ printf '%s\n' "$h_l" | sed -n 's/^[01]\.\///p'
printf '%s\n' "$h_t" | sed -e '/^-$/d' -e 's/^.\{66\}//'; } | sort | uniq -u |
while IFS= read -r h_i; do
if [ -e "./$h_i" ] || [ -L "./$h_i" ]; then printf '%s\0' "$h_i"; fi
done
printf '\0'
fi
h_d=$(printf '%s\n' "$h_t" | h_sum)
h_d=${h_d%% *}
printf 'd %s\n' "$h_d"
)sh";

// Mount points, which the walk does not enter, where the system tells of them.
constexpr std::string_view kMounts = R"sh(if [ -r /proc/self/mountinfo ]; then
h_w=$(pwd -P)
printf 'o x\n'
sed -e 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .*/\1/' -e '/\\134/d' -e '/\\012/d' -e 's/\\040/ /g' \
-e 's/\\011/	/g' /proc/self/mountinfo | sort -u | while IFS= read -r h_i; do
case $h_i in "${h_w%/}"/?*) h_i=.${h_i#"${h_w%/}"}; [ -d "$h_i" ] && printf '%s\0' "$h_i";; esac
done
printf '\0'
fi
)sh";

// In the words of fnmatch, which has classes that an ignore pattern does not.
std::string FnmatchOf(std::string_view pattern) {
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '[' || (pattern[i] == '\\' && i + 1 == pattern.size())) out.push_back('\\');
    out.push_back(pattern[i]);
    if (pattern[i] == '\\' && i + 1 < pattern.size()) out.push_back(pattern[++i]);
  }
  return out;
}

// What IgnoreList does, for find. Its -path lets a star stand for a slash, too; a name that has no
// more slashes than the pattern has none left for a star.
std::string IgnoreTests(const std::vector<std::string>& patterns) {
  std::string tests = "-name ";
  tests += ShellQuote(std::string(kOwnPrefix) + "*");
  for (std::string_view pattern : patterns) {
    while (pattern.ends_with('/')) pattern.remove_suffix(1);
    const bool anchored = pattern.find('/') != pattern.npos;
    if (pattern.starts_with('/')) pattern.remove_prefix(1);
    if (!anchored) {
      Append(&tests, {" -o -name ", ShellQuote(FnmatchOf(pattern))});
      continue;
    }
    std::string deeper = "./*";
    for (char c : pattern) deeper += c == '/' ? "/*" : "";
    Append(&tests, {" -o \\( -path ", ShellQuote("./" + FnmatchOf(pattern)), " ! -path ",
                    ShellQuote(deeper + "/*"), " \\)"});
  }
  return tests;
}

// h_find TESTS...: over all that is not ignored and has a plain name.
std::string FindText(const RemoteRoot& root) {
  std::string deep = "./*";
  for (size_t i = 1; i < kMaxDepth + 1; ++i) deep += "/*";
  const std::string ignored = IgnoreTests(root.ignore);
  const std::string odd =
      "\\( -name '*\\\\*' -o -name '*\n*' -o -path " + ShellQuote(deep) + " \\)";
  const std::string start = root.only ? ShellQuote("./" + root.only->str()) + " -maxdepth 0" : ".";
  const std::string begin =
      "find " + start + " -xdev ! -name . \\( " + ignored + " \\) -prune -o ! -name . " + odd;
  std::string text;
  Append(&text, {"h_find() { ", begin, " -prune -o \"$@\"; }\n"});
  Append(&text,
         {"h_odd() { ", begin,
          R"sh( -prune -exec sh -c 'printf "o n\n"; printf "%s\0" "$@"; printf "\0"' sh {} + >&3
}
)sh"});
  return text;
}

// The names of a kind of oddity, out of a find whose output is lines of files.
std::string TellOdd(std::string_view letter) {
  std::string text =
      R"sh(-exec sh -c 'exec >&3; printf "o %s\n" "$0"; printf "%s\0" "$@"; printf "\0"' )sh";
  Append(&text, {letter, " {} + -o "});
  return text;
}

std::string WalkText(const RemoteRoot& root) {
  std::string text = "h_odd\nh_l=$( ( h_find -type l ";
  Append(&text, {TellOdd("l"), "! -type f ! -type d ", TellOdd("s")});
  if (root.max_file_bytes < INT64_MAX) {
    Append(&text, {"-type f -size +", std::to_string(root.max_file_bytes), "c ", TellOdd("b")});
  }
  Append(&text, {R"sh(-type f -perm -100 -exec sh -c 'printf "0%s\n" "$@"' sh {} + -o )sh",
                 R"sh(-type f -exec sh -c 'printf "1%s\n" "$@"' sh {} + 2>&1)sh", kWalk});
  return text;
}

}  // namespace

std::string ShellLookText(std::string_view mark, const RemoteRoot& root,
                          const std::optional<Digest>& expected) {
  const std::string empty = CanonicalText({});
  const std::string empty_hex = Hex(DigestOf(empty));
  const std::string wanted = expected ? Hex(*expected) : "none";
  std::string text = ShellPrelude(mark) + ShellRoot(root);
  Append(&text, {"if [ ! -e \"$h_w\" ] && [ ! -L \"$h_w\" ]; then\n",
                 "printf '%s h B 0 -\\nd %s\\n' \"$h_m\" ", empty_hex, "\n"});
  if (wanted != empty_hex)
    Append(&text,
           {"printf 'm %s\\n%s' ", std::to_string(empty.size()), " ", ShellQuote(empty), "\n"});
  Append(&text, {"printf '%s e\\n' \"$h_m\"\nexit 0\nfi\n", kEnterRoot, ShellEpoch(root),
                 "printf '%s h B 1 %s\\n' \"$h_m\" \"${h_o:--}\"\nexec 3>&1\n", FindText(root),
                 WalkText(root), root.only ? std::string_view() : kMounts, kDigests});
  Append(&text, {"[ \"$h_d\" = ", wanted, " ] || printf 'm %s\\n%s\\n' \"$(($2))\" \"$h_t\"\n",
                 "printf '%s e\\n' \"$h_m\"\n"});
  return text;
}

size_t ShellFetchCount(std::span<const RelPath> names) {
  size_t bytes = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    bytes += names[i].str().size() + 3;  // "./" before it, an end behind it
    if (bytes > kMaxShellNames) return i == 0 ? 1 : i;
  }
  return names.size();
}

std::string ShellFetchText(std::string_view mark, const RemoteRoot& root,
                           std::span<const RelPath> names) {
  std::string text = ShellPrelude(mark) + ShellRoot(root);
  Append(&text, {"command -v tar >/dev/null || h_fail notools tar\n", kEnterRoot,
                 "printf '%s h B 1 -\\n' \"$h_m\"\nset -f\nset --"});
  for (const RelPath& name : names) Append(&text, {" ", ShellQuote("./" + name.str())});
  // Those that are still regular files. Without any a tar refuses to make an archive.
  text += R"sh(
set -- $(find "$@" -prune -type f | sed 's/^\.\///')
if [ $# -eq 0 ]; then dd if=/dev/zero bs=512 count=2; else tar -cf - -- "$@"; fi
)sh";
  return text;
}

}  // namespace hermes::sync
