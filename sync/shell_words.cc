#include "sync/shell_words.h"

#include "sync/shell_tree.h"

namespace hermes::sync {
namespace {

// $h_s is an apply's stage, which is gone before anything is told: whoever hears the end may break
// the stream at once. Sizes and orders are those of bytes, and no setting of the account changes
// what a tool does. The sed of h_lines takes out how names with a carriage return are quoted
// by some sha256sum.
constexpr std::string_view kPrelude = R"sh(exec 2>/dev/null
LC_ALL=C h_s=; export LC_ALL; unset CDPATH TAR_OPTIONS POSIXLY_CORRECT GREP_OPTIONS
IFS='
'
h_fail() {
[ -z "$h_s" ] || rm -rf "$h_s"
printf '%s x %s %s\n' "$h_m" "$1" "$(printf %s "$2" | tr '\n\r' '  ' | dd bs=1000 count=1)"
exit 1
}
for h_i in find sort tr sed xargs wc dd; do command -v $h_i >/dev/null || h_fail notools $h_i; done
if command -v sha256sum >/dev/null; then
h_sums() { xargs -r -0 sha256sum; }; h_sum() { sha256sum; }
elif command -v shasum >/dev/null; then
h_sums() { xargs -r -0 shasum -a 256; }; h_sum() { shasum -a 256; }
elif command -v openssl >/dev/null; then
h_sums() { xargs -r -0 openssl dgst -sha256 -r; }; h_sum() { openssl dgst -sha256 -r; }
else
h_fail notools sha256sum
fi
h_lines() {
tr '\n' '\0' | h_sums | sed -e '/^\\/{' -e 's/^.//' -e 's/\\r/'"$(printf '\r')"'/g' -e '}' \
-e 's/^\([0-9a-f]*\) [ *]\.\//\1  /'
}
)sh";

// As the runner does it: neither a link nor what is no token is one.
constexpr std::string_view kEpoch = R"sh(h_o=
if [ -f "$h_n" ] && [ ! -L "$h_n" ]; then
IFS= read -r h_o <"$h_n"
case $h_o in *[!0-9a-f]*) h_o=;; esac
[ "${#h_o}" -ge 16 ] && [ "${#h_o}" -le 64 ] || h_o=
fi
)sh";

}  // namespace

void Append(std::string* text, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts) text->append(part.data(), part.size());
}

std::string ShellPrelude(std::string_view mark) {
  std::string text = "h_m=";
  Append(&text, {ShellQuote(mark), "\n", kPrelude});
  return text;
}

std::string ShellRoot(const RemoteRoot& root) {
  std::string text = "h_w=";
  if (root.path == "~" || root.path.starts_with("~/")) {
    Append(&text, {"$HOME", ShellQuote(std::string_view(root.path).substr(1)),
                   "\n[ -n \"$HOME\" ] || h_fail noroot \"there is no home\"\n"});
  } else {
    Append(&text, {ShellQuote(root.path), "\n"});
  }
  return text;
}

std::string ShellEpoch(const RemoteRoot& root) {
  const std::string behind = root.only ? "-" + root.only->str() : "";
  std::string text = "h_n=";
  Append(&text, {ShellQuote("./.hermesd-epoch" + behind), "\n", kEpoch});
  return text;
}

std::string ShellQuote(std::string_view text) {
  std::string quoted = "'";
  for (char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted.push_back(c);
    }
  }
  quoted.push_back('\'');
  return quoted;
}

}  // namespace hermes::sync
