#pragma once

// What is said to a far end that has nothing but a POSIX shell with find, sort, tr, sed, xargs, wc,
// dd and sha256sum (or shasum, or openssl), for a fetch tar, for an apply tar, paste, mkdir, mv and
// rm: texts for `sh` that look at a tree, take files into it and give files of it, in the words of
// far_answer.h. Only what GNU and busybox tools have in common. Pure; names are any bytes but
// newline and backslash (HasPlainName).
//
// A look and a fetch are texts of their own. An apply is a text and, behind it on the same stdin, a
// tar: the files below t/, and last "gone" (deletions), "plan" (what is placed where) and "apply"
// (who does it). What is cut short has no whole "apply", so nothing of it is placed.

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sync/remote_tree.h"

namespace hermes::sync {

// Of names in one command over there. A fetch of more takes several texts.
inline constexpr size_t kMaxShellNames = 96 << 10;
// A longer name cannot be placed: with the stage before it, it is over PATH_MAX there.
inline constexpr size_t kMaxShellName = 3900;
// Files of one digest are sent once from this size on; below, a copy costs more than the bytes, as
// a program runs for it. A runner copies by itself, so it is given each digest once.
inline constexpr uint64_t kMinSharedBytes = 64 << 10;

inline constexpr std::string_view kStagedFolder = "t/";  // in an apply's tar, before a file's name

// Reads a look's or a fetch's text to the end of stdin and runs it: far faster than a shell that
// must leave what follows its text unread.
inline constexpr std::string_view kShellReadAll = "eval \"$(cat)\"";

std::string ShellQuote(std::string_view text);

std::string ShellLookText(std::string_view mark, const RemoteRoot& root,
                          const std::optional<Digest>& expected);
std::string ShellFetchText(std::string_view mark, const RemoteRoot& root,
                           std::span<const RelPath> names);
// How many of `names`, at least one, fit into one fetch.
size_t ShellFetchCount(std::span<const RelPath> names);

// Read first, before the tar. `nonce`: of the stage's name, hex digits.
std::string ShellApplyText(std::string_view mark, const RemoteApply& apply, std::string_view nonce);

// What became of one change while the tar was written.
struct ShellBlob {
  enum class Fate {
    kNone,    // a deletion
    kSent,    // its bytes are in the tar, and they are those of `wanted`
    kCopied,  // its bytes are those of the change `from`
    kBad,     // it is not to be placed
  };
  Fate fate = Fate::kNone;
  size_t from = 0;
};

// The last members of the tar, in this order; they are small files without a folder.
struct ShellMember {
  std::string_view name;
  std::string bytes;
};
// `blobs` has one for each change.
std::vector<ShellMember> ShellApplyMembers(const RemoteApply& apply,
                                           std::span<const ShellBlob> blobs);

}  // namespace hermes::sync
