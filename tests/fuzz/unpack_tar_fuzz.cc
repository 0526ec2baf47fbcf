// The tar stream of a hostile place. Whatever it is, the records keep their rules, the pieces in
// which it comes make no difference, and what is accepted is what another reader sees, too.

#include <archive.h>
#include <archive_entry.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "daemon/runtime/check.h"
#include "tests/sync/hostile_corpus.h"
#include "tests/sync/unpack_stand.h"

namespace hermes::sync {
namespace {

void CheckAgainstLibarchive(const Unpacked& outcome, std::string_view stream) {
  archive* reader = archive_read_new();
  archive_read_support_format_tar(reader);
  archive_entry* entry = nullptr;
  int result = archive_read_open_memory(reader, stream.data(), stream.size());
  while (result == ARCHIVE_OK || result == ARCHIVE_WARN) {
    result = archive_read_next_header(reader, &entry);
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) break;
    const char* name = archive_entry_pathname(entry);
    const bool plain = archive_entry_filetype(entry) == AE_IFREG &&
                       archive_entry_hardlink(entry) == nullptr &&
                       archive_entry_sparse_count(entry) == 0;
    auto ours = name == nullptr ? outcome.staged.end() : outcome.staged.find(name);
    if (!plain || ours == outcome.staged.end()) continue;
    CHECK(archive_entry_size(entry) == static_cast<la_int64_t>(ours->second.size()));
    std::string content(ours->second.size(), '\0');
    CHECK(archive_read_data(reader, content.data(), content.size()) ==
          static_cast<la_ssize_t>(content.size()));
    CHECK(content == ours->second);
  }
  archive_read_free(reader);
}

}  // namespace
}  // namespace hermes::sync

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using hermes::sync::Verdict;
  static const auto* const kRequest =
      new hermes::sync::unpack::Request(hermes::sync::RequestFor(hermes::sync::CorpusNames()));
  std::string_view stream(reinterpret_cast<const char*>(data), size);
  hermes::sync::Unpacked whole = hermes::sync::Unpack(*kRequest, stream);
  CHECK(!whole.broken);
  hermes::sync::Unpacked pieces = hermes::sync::Unpack(*kRequest, stream, 1 + size % 700);
  CHECK(!pieces.broken);
  CHECK(pieces.Told() == whole.Told());
  CHECK(pieces.staged == whole.staged);
  if (whole.verdict == Verdict::kClean || whole.verdict == Verdict::kOdd) {
    hermes::sync::CheckAgainstLibarchive(whole, stream);
  }
  return 0;
}
