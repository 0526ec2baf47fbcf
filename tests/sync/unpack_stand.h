#pragma once

// The way of a stream through Unpacker and RecordChecker, in this process and without files.

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sync/record_checker.h"
#include "sync/unpack/unpacker.h"
#include "tests/sync/hostile_corpus.h"

namespace hermes::sync {

// Keeps whole files by name.
class MemorySink : public BundleSink {
 public:
  explicit MemorySink(const unpack::Request& request) : request_(request) {}
  absl::Status Begin(const unpack::File& file) override;
  absl::Status Append(std::string_view bytes) override;
  absl::Status End() override;
  absl::Status Copy(uint32_t index, uint32_t from) override;

  const std::map<std::string, std::string>& files() const { return files_; }

 private:
  const std::string& Name(uint32_t index) const { return request_.wanted[index].name; }
  const unpack::Request& request_;
  std::string name_;
  std::string content_;
  std::map<std::string, std::string> files_;
};

struct Unpacked {
  Verdict verdict = Verdict::kFailed;
  std::map<std::string, std::string> staged;  // whatever the verdict: what got so far
  std::vector<unpack::Odd> oddities;
  std::vector<unpack::Lie> lies;
  bool broken = false;  // the records break their own rules: never, in this process

  std::string Told() const;
};

unpack::Request RequestFor(const std::vector<std::string>& names);  // with the corpus' limits
// Fed in pieces of `piece` bytes.
Unpacked Unpack(const unpack::Request& request, std::string_view bytes, size_t piece = 65'536);

std::string_view Word(Verdict verdict);
bool Deep();  // HERMES_DEEP=1

}  // namespace hermes::sync
