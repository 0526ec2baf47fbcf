#pragma once

// Streams that a hostile or odd place may send for the names in CorpusNames(), one or more for each
// known class of attack. Every one carries two honest members: a first and, where the stream lives
// so long, a last. Pure.

#include <map>
#include <string>
#include <vector>

namespace hermes::sync {

enum class Verdict { kClean, kOdd, kLie, kFailed };

struct HostileCase {
  std::string name;
  std::string bytes;
  Verdict verdict = Verdict::kLie;
  // What is staged, by name: of a stream that is clean or odd.
  std::map<std::string, std::string> staged = {};
  bool small = true;  // few enough bytes to be tried with every byte changed
};

inline constexpr uint64_t kCorpusMaxFile = 64 << 10;
inline constexpr uint64_t kCorpusMaxTotal = 4 << 20;
inline constexpr uint32_t kCorpusMaxMembers = 2000;

const std::vector<std::string>& CorpusNames();
const std::vector<HostileCase>& HostileCorpus();

}  // namespace hermes::sync
