#pragma once

// A tar of the named files, those that are there: regular files only, exactly the bytes that its
// headers tell (a file that shrinks meanwhile is filled up: its digest tells the reader).

#include <string>
#include <vector>

#include "backends/runner/files_io.h"
#include "backends/runner/files_look.h"
#include "backends/runner/files_tree.h"

namespace hermes::runner {

void AnswerFetch(FilesTree& tree, const Scope& scope, const std::vector<std::string>& names,
                 FilesAnswer& answer);

}  // namespace hermes::runner
