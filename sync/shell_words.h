#pragma once

// Words that the texts for a far shell share (shell_tree.h). Pure.

#include <initializer_list>
#include <string>
#include <string_view>

#include "sync/remote_tree.h"

namespace hermes::sync {

void Append(std::string* text, std::initializer_list<std::string_view> parts);

// What each text begins with: the mark, the tools, and what they are called. Afterwards
//   h_fail WORD TEXT   tells a trouble and ends
//   h_sums, h_sum      digests of the files whose names are on stdin, each with a NUL; of stdin
//   h_lines            of names in lines, each with "./", the lines of a manifest
// and words are split at newlines only.
std::string ShellPrelude(std::string_view mark);

// Sets $h_w to the root.
std::string ShellRoot(const RemoteRoot& root);

// Within the root: sets $h_n to the name of our token there, $h_o to what it says (empty: nothing).
std::string ShellEpoch(const RemoteRoot& root);

// Goes there.
inline constexpr std::string_view kEnterRoot =
    "cd \"$h_w\" || h_fail noroot \"it cannot be entered\"\n";

}  // namespace hermes::sync
