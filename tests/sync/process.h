#pragma once

// Real programs over real files, for tests that check ours against them.

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace hermes::sync {

struct Ran {
  int code = -1;  // exit code; -1: it was killed or could not be started
  std::string out;
  std::string err;
};

// Runs `words` in the directory `cwd`; looked up in PATH.
Ran RunProgram(const std::string& cwd, std::vector<std::string> words, std::string_view in = {});

std::string Slurp(const std::string& path);
void Spit(const std::string& path, std::string_view bytes);  // makes parent directories
// name -> content of all regular files below `root`.
std::map<std::string, std::string> FilesBelow(const std::string& root);

}  // namespace hermes::sync
