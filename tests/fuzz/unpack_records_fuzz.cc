// What a hermes-unpack says that a hostile stream took over: hermesd's side of the pipe.

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "daemon/runtime/check.h"
#include "sync/record_checker.h"

namespace hermes::sync {
namespace {

constexpr uint64_t kMaxFile = 1000;
constexpr uint64_t kMaxTotal = 2500;
constexpr uint32_t kFiles = 5;

// Holds the checker to its word.
class StrictSink : public BundleSink {
 public:
  absl::Status Begin(const unpack::File& file) override {
    CHECK(!open_);
    open_ = true;
    index_ = file.index;
    left_ = file.size;
    Count(file.index, file.size);
    return absl::OkStatus();
  }
  absl::Status Append(std::string_view bytes) override {
    CHECK(open_ && !bytes.empty() && bytes.size() <= left_);
    left_ -= bytes.size();
    return absl::OkStatus();
  }
  absl::Status End() override {
    CHECK(open_ && left_ == 0);
    open_ = false;
    whole_.insert(index_);
    return absl::OkStatus();
  }
  absl::Status Copy(uint32_t index, uint32_t from) override {
    CHECK(!open_ && whole_.contains(from));
    Count(index, 0);
    whole_.insert(index);
    return absl::OkStatus();
  }

 private:
  void Count(uint32_t index, uint64_t size) {
    CHECK(index < kFiles && seen_.insert(index).second);
    total_ += size;
    CHECK(size <= kMaxFile && total_ <= kMaxTotal);
  }

  bool open_ = false;
  uint32_t index_ = 0;
  uint64_t left_ = 0;
  uint64_t total_ = 0;
  std::set<uint32_t> seen_;
  std::set<uint32_t> whole_;
};

// Decoding and encoding again gives the same bytes.
void CheckEncoding(std::string_view stream) {
  unpack::Record record;
  size_t consumed = 0;
  while (unpack::ParseRecord(stream, &record, &consumed) == unpack::Parse::kRecord) {
    std::string again;
    unpack::Encode(again, record);
    CHECK(again == stream.substr(0, consumed));
    stream.remove_prefix(consumed);
  }
}

unpack::Request MakeRequest() {
  unpack::Request request{.max_total_bytes = kMaxTotal, .max_members = 20};
  for (uint32_t i = 0; i < kFiles; ++i) request.wanted.push_back({std::to_string(i), kMaxFile});
  return request;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view stream(reinterpret_cast<const char*>(data), size);
  CheckEncoding(stream);
  unpack::DecodeRequest(stream);
  const unpack::Request request = MakeRequest();
  StrictSink sink;
  RecordChecker checker(request, sink);
  const size_t piece = 1 + size % 100;
  while (!stream.empty()) {
    std::string_view part = stream.substr(0, piece);
    CHECK(checker.Consume(part).ok());
    stream.remove_prefix(part.size());
  }
  CHECK(checker.files() <= kFiles && checker.Missing().size() <= kFiles);
  return 0;
}

}  // namespace hermes::sync
