#pragma once

// What a tree holds, and the answer to a look.

#include <map>
#include <string>
#include <string_view>

#include "backends/runner/files_io.h"
#include "backends/runner/files_tree.h"

namespace hermes::runner {

inline constexpr size_t kMostNames = 1'000'000;  // files and oddities; more is told as a failure

// Keys of files begin with '0' for an executable one, '1' for another, so the order is that of the
// canonical text; values are the digest in hex and the size in decimal behind it. Oddities are
// keyed by their letter (sync/far_answer.h) and the name.
struct Listing {
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> odd;
};

struct Scope {
  std::string_view only;  // of a file mount; empty: all
  sync::NameFilter ignore;
  uint64_t max_file_bytes = 0;
};

// False: there are more names, or the root cannot be read.
bool ListTree(FilesTree& tree, const Scope& scope, Listing* listing);

void AnswerLook(const Listing& listing, std::string_view expected, FilesAnswer& answer);

}  // namespace hermes::runner
