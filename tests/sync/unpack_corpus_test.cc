// Every hostile stream, as it is, cut everywhere and with every byte changed, read in this process.

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <optional>

#include <gtest/gtest.h>

#include "tests/sync/hostile_corpus.h"
#include "tests/sync/tar_bytes.h"
#include "tests/sync/unpack_stand.h"

namespace hermes::sync {
namespace {

const unpack::Request& Wanted() {
  static const auto* const kRequest = new unpack::Request(RequestFor(CorpusNames()));
  return *kRequest;
}

bool Accepted(const Unpacked& outcome) {
  return outcome.verdict == Verdict::kClean || outcome.verdict == Verdict::kOdd;
}

TEST(UnpackCorpusTest, GivesEveryStreamItsVerdict) {
  for (const HostileCase& hostile : HostileCorpus()) {
    Unpacked outcome = Unpack(Wanted(), hostile.bytes);
    EXPECT_EQ(Word(outcome.verdict), Word(hostile.verdict))
        << hostile.name << ": " << outcome.Told();
    EXPECT_FALSE(outcome.broken) << hostile.name;
    if (Accepted(outcome)) EXPECT_EQ(outcome.staged, hostile.staged) << hostile.name;
  }
}

// What an honest tar makes of a tree with hard links: copies count, though the stream lacks them.
TEST(UnpackCorpusTest, HardLinksBeyondTheTotalAreALimitAndNoBreakOfTheRules) {
  const std::string bytes = tar::File("first", std::string(400, 'x')) +
                            tar::Block({.name = "a", .type = '1', .link = "first"}) +
                            tar::File("b", std::string(300, 'y')) +
                            tar::File("last", std::string(100, 'z')) + tar::End();
  unpack::Request request = RequestFor({"first", "a", "b", "last"});
  request.max_total_bytes = 1000;
  const Unpacked strict = Unpack(request, bytes);
  EXPECT_FALSE(strict.broken);
  ASSERT_EQ(strict.lies.size(), 1u);
  EXPECT_EQ(strict.lies[0].what, unpack::LieKind::kTooMuch);
  request.salvage = true;
  const Unpacked salvaged = Unpack(request, bytes);
  EXPECT_FALSE(salvaged.broken);
  EXPECT_EQ(salvaged.staged.size(), 3u) << salvaged.Told();
  ASSERT_EQ(salvaged.oddities.size(), 1u);
  EXPECT_EQ(salvaged.oddities[0].why, unpack::Oddity::kTooBig);
}

TEST(UnpackCorpusTest, SeesTheSameInWhateverPiecesTheBytesCome) {
  for (const HostileCase& hostile : HostileCorpus()) {
    if (!hostile.small) continue;
    Unpacked whole = Unpack(Wanted(), hostile.bytes);
    for (size_t piece : {1, 7, 511, 512, 513, 1000}) {
      Unpacked pieces = Unpack(Wanted(), hostile.bytes, piece);
      EXPECT_EQ(pieces.Told(), whole.Told()) << hostile.name << " by " << piece;
    }
  }
}

TEST(UnpackCorpusTest, TakesNothingForWholeThatWasCut) {
  for (const HostileCase& hostile : HostileCorpus()) {
    // What may go missing without a difference: the filling behind the end, two blocks of zeros.
    const size_t content = hostile.bytes.find_last_not_of('\0') / 512 * 512 + 512;
    // The big ones repeat one block over and over.
    const size_t cuts = Deep() ? 400 : 40;
    const size_t step =
        hostile.small ? 512 : std::max(hostile.bytes.size() / cuts / 512, size_t{1}) * 512;
    for (size_t cut = 0; cut < hostile.bytes.size(); cut += step) {
      Unpacked outcome = Unpack(Wanted(), std::string_view(hostile.bytes).substr(0, cut));
      EXPECT_FALSE(outcome.broken) << hostile.name << " cut at " << cut;
      if (cut < content) {
        EXPECT_FALSE(Accepted(outcome) && hostile.verdict != Verdict::kLie)
            << hostile.name << " cut at " << cut << ": " << outcome.Told();
      }
    }
  }
}

// The first members of the streams are the honest ones, so even with salvage a changed header must
// not bring another content under their names.
TEST(UnpackCorpusTest, NoChangedHeaderByteBringsAnotherContent) {
  size_t runs = 0;
  for (const HostileCase& hostile : HostileCorpus()) {
    if (!hostile.small) continue;
    const Unpacked honest = Unpack(Wanted(), hostile.bytes);
    const size_t most = std::min<size_t>(hostile.bytes.size(), 16 << 10);
    for (size_t at = 0; at < most; ++at) {
      const size_t block = at / 512 * 512;
      if (block + 512 > hostile.bytes.size()) break;
      if (hostile.bytes.compare(block + 257, 5, "ustar") != 0) continue;
      for (uint8_t change : {0x01, 0x20, 0x80, 0xff}) {
        if (!Deep() && change != 0xff && (at + change) % 7 != 0) continue;
        std::string changed = hostile.bytes;
        changed[at] = static_cast<char>(changed[at] ^ change);
        Unpacked outcome = Unpack(Wanted(), changed);
        ++runs;
        ASSERT_FALSE(outcome.broken) << hostile.name << " changed at " << at;
        for (const auto& [name, content] : outcome.staged) {
          auto before = honest.staged.find(name);
          ASSERT_TRUE(before != honest.staged.end() && before->second == content)
              << hostile.name << " changed at " << at << " by " << int{change} << ": " << name;
        }
        // The checksum's own blanks may be NUL or space.
        const bool checksum = at % 512 >= 148 && at % 512 < 156;
        ASSERT_TRUE(!Accepted(outcome) || checksum)
            << hostile.name << " changed at " << at << ": " << outcome.Told();
      }
    }
  }
  EXPECT_GT(runs, 50'000U);
}

TEST(UnpackCorpusTest, AnyChangedByteLeavesAVerdict) {
  for (const HostileCase& hostile : HostileCorpus()) {
    if (!hostile.small) continue;
    const size_t most = std::min<size_t>(hostile.bytes.size(), 16 << 10);
    for (size_t at = 0; at < most; at += Deep() ? 1 : 3) {
      std::string changed = hostile.bytes;
      changed[at] = static_cast<char>(~changed[at]);
      Unpacked outcome = Unpack(Wanted(), changed);
      ASSERT_FALSE(outcome.broken) << hostile.name << " changed at " << at;
      for (const auto& [name, content] : outcome.staged) {
        ASSERT_LE(content.size(), kCorpusMaxFile) << hostile.name << " changed at " << at;
      }
    }
  }
}

// name -> content of every regular file that libarchive finds; nullopt when it finds fault.
std::optional<std::map<std::string, std::string>> ByLibarchive(const std::string& bytes) {
  std::map<std::string, std::string> files;
  archive* reader = archive_read_new();
  archive_read_support_format_tar(reader);
  bool fine = archive_read_open_memory(reader, bytes.data(), bytes.size()) == ARCHIVE_OK;
  archive_entry* entry = nullptr;
  while (fine) {
    const int result = archive_read_next_header(reader, &entry);
    if (result == ARCHIVE_EOF) break;
    fine = result >= ARCHIVE_WARN;
    const char* name = fine ? archive_entry_pathname(entry) : nullptr;
    if (name == nullptr) continue;
    if (archive_entry_size(entry) > static_cast<la_int64_t>(kCorpusMaxFile)) continue;
    std::string content(static_cast<size_t>(archive_entry_size(entry)), '\0');
    fine = archive_read_data(reader, content.data(), content.size()) ==
           static_cast<la_ssize_t>(content.size());
    const char* link = archive_entry_hardlink(entry);
    if (link == nullptr && archive_entry_filetype(entry) != AE_IFREG) continue;
    files[name] = link != nullptr && files.contains(link) ? files[link] : content;
  }
  archive_read_free(reader);
  if (!fine) return std::nullopt;
  return files;
}

// What is staged is what another reader makes of the same bytes: no place can show two readers two
// trees.
TEST(UnpackCorpusTest, AgreesWithLibarchiveOnAllItAccepts) {
  size_t agreed = 0;
  size_t refused = 0;
  for (const HostileCase& hostile : HostileCorpus()) {
    Unpacked outcome = Unpack(Wanted(), hostile.bytes);
    if (!Accepted(outcome) || outcome.staged.empty()) continue;
    auto theirs = ByLibarchive(hostile.bytes);
    // Of a member type that it gives a meaning of its own it wants another form.
    if (!theirs && ++refused < 3) continue;
    ASSERT_TRUE(theirs.has_value()) << hostile.name;
    for (const auto& [name, content] : outcome.staged) {
      ASSERT_TRUE(theirs->contains(name)) << hostile.name << ": " << name;
      EXPECT_EQ(theirs->at(name), content) << hostile.name << ": " << name;
      ++agreed;
    }
  }
  EXPECT_GT(agreed, 50U);
}

}  // namespace
}  // namespace hermes::sync
