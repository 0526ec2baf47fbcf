#include "tests/sync/unpack_stand.h"

#include <cstdlib>

namespace hermes::sync {

absl::Status MemorySink::Begin(const unpack::File& file) {
  name_ = Name(file.index);
  content_.clear();
  return absl::OkStatus();
}

absl::Status MemorySink::Append(std::string_view bytes) {
  content_ += bytes;
  return absl::OkStatus();
}

absl::Status MemorySink::End() {
  files_[name_] = content_;
  return absl::OkStatus();
}

absl::Status MemorySink::Copy(uint32_t index, uint32_t from) {
  files_[Name(index)] = files_.at(Name(from));
  return absl::OkStatus();
}

std::string Unpacked::Told() const {
  std::string text(Word(verdict));
  for (const unpack::Odd& odd : oddities) text += "; odd: " + std::string(unpack::Text(odd.why));
  for (const unpack::Lie& lie : lies) text += "; lie: " + std::string(unpack::Text(lie.what));
  for (const auto& [name, content] : staged) text += "; staged " + name;
  return text + (broken ? "; records broken" : "");
}

unpack::Request RequestFor(const std::vector<std::string>& names) {
  unpack::Request request{.max_total_bytes = kCorpusMaxTotal, .max_members = kCorpusMaxMembers};
  for (const std::string& name : names) request.wanted.push_back({name, kCorpusMaxFile});
  return request;
}

Unpacked Unpack(const unpack::Request& request, std::string_view bytes, size_t piece) {
  MemorySink sink(request);
  RecordChecker checker(request, sink);
  unpack::Unpacker unpacker(request);
  std::string records;
  unpack::Encode(records, unpack::Hello{});
  bool more = true;
  while (more && !bytes.empty()) {
    std::string_view part = bytes.substr(0, piece);
    more = unpacker.Feed(part, &records);
    bytes.remove_prefix(part.size());
    static_cast<void>(checker.Consume(records));
    records.clear();
  }
  unpacker.Finish(&records);
  static_cast<void>(checker.Consume(records));

  Unpacked outcome{.staged = sink.files(),
                   .oddities = checker.oddities(),
                   .lies = checker.lies(),
                   .broken = checker.broken() || !checker.end()};
  const bool whole = checker.end() && checker.end()->how == unpack::End::How::kComplete;
  outcome.verdict = !outcome.lies.empty()       ? Verdict::kLie
                    : !whole                    ? Verdict::kFailed
                    : !outcome.oddities.empty() ? Verdict::kOdd
                                                : Verdict::kClean;
  return outcome;
}

std::string_view Word(Verdict verdict) {
  switch (verdict) {
    case Verdict::kClean:
      return "clean";
    case Verdict::kOdd:
      return "odd";
    case Verdict::kLie:
      return "lie";
    default:
      return "failed";
  }
}

bool Deep() {
  const char* deep = std::getenv("HERMES_DEEP");
  return deep != nullptr && std::string_view(deep) == "1";
}

}  // namespace hermes::sync
