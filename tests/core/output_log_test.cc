#include "daemon/core/output_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <random>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>

#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

constexpr OutputStream kOut = OutputStream::kStdout;
constexpr OutputStream kErr = OutputStream::kStderr;

// A byte that tells its offset, and does not repeat with any power of two.
char ByteAt(uint64_t offset) { return static_cast<char>((offset * 0x9e3779b97f4a7c15) >> 56); }

std::string Bytes(uint64_t from, uint64_t to) {
  std::string bytes(to - from, 0);
  for (uint64_t i = from; i < to; ++i) bytes[i - from] = ByteAt(i);
  return bytes;
}

class OutputLogTest : public ::testing::Test {
 protected:
  OutputLog::Options Limit(uint64_t limit) const {
    OutputLog::Options options;
    options.path_prefix = folder_ + "/log";
    options.tag = "5d1c9f9e-run";
    options.limit_bytes = limit;
    return options;
  }

  std::string OutPath() const { return folder_ + "/log.out"; }
  bool OutFileExists() const { return std::filesystem::exists(OutPath()); }

  static absl::Status Add(OutputLog& log, uint64_t count, OutputStream stream = kOut) {
    const uint64_t from = log.end(stream);
    return log.Append(stream, from, Bytes(from, from + count));
  }

  static void AddInChunks(OutputLog& log, uint64_t total, uint64_t chunk = 10'007) {
    while (log.end(kOut) < total) {
      ASSERT_TRUE(Add(log, std::min(chunk, total - log.end(kOut))).ok());
    }
  }

  // Reads from `offset` to the end; every byte must be right. Gaps as "from-to reason".
  static std::vector<std::string> Check(const OutputLog& log, uint64_t offset = 0,
                                        size_t most = 40'000, OutputStream stream = kOut) {
    std::vector<std::string> gaps;
    while (true) {
      absl::StatusOr<OutputLog::Piece> piece = log.ReadAt(stream, offset, most);
      if (!piece.ok()) {
        ADD_FAILURE() << piece.status();
        return gaps;
      }
      EXPECT_EQ(piece->offset, offset);
      EXPECT_LE(piece->data.size(), most);
      if (piece->gap_to != 0) {
        EXPECT_GT(piece->gap_to, offset);
        gaps.push_back(std::to_string(offset) + "-" + std::to_string(piece->gap_to) + " " +
                       piece->gap_reason);
        offset = piece->gap_to;
      } else if (piece->data.empty()) {
        EXPECT_EQ(offset, log.end(stream));
        return gaps;
      } else {
        if (piece->data != Bytes(offset, offset + piece->data.size())) {
          ADD_FAILURE() << "wrong bytes in the piece at " << offset;
        }
        offset += piece->data.size();
      }
    }
  }

  std::unique_ptr<OutputLog> Reopen(const OutputLog::Options& options,
                                    OutputLog::Saved saved = {}) {
    auto log = OutputLog::Restore(loop_, options, std::move(saved));
    if (!log.ok()) {
      ADD_FAILURE() << log.status();
      return nullptr;
    }
    return *std::move(log);
  }

  Loop loop_;
  TempDir temp_;
  const std::string folder_ = temp_.path();
};

using Gaps = std::vector<std::string>;

TEST_F(OutputLogTest, KeepsSmallOutputInMemoryWithoutAFile) {
  OutputLog log(loop_, Limit(1 << 20));
  AddInChunks(log, kInlineBytes);
  EXPECT_FALSE(OutFileExists());
  EXPECT_EQ(log.on_disk(kOut), 0u);
  EXPECT_EQ(log.end(kErr), 0u);
  EXPECT_EQ(Check(log), Gaps());
  EXPECT_EQ(log.Save().stream[0].inline_bytes, Bytes(0, kInlineBytes));
}

TEST_F(OutputLogTest, SpillsToAPrivateFileOneByteBeyondTheInlineLimit) {
  OutputLog log(loop_, Limit(1 << 20));
  AddInChunks(log, kInlineBytes);
  ASSERT_TRUE(Add(log, 1).ok());
  struct stat info;
  ASSERT_EQ(stat(OutPath().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(log.on_disk(kOut), kInlineBytes + 1);
  EXPECT_EQ(Check(log), Gaps());
  EXPECT_TRUE(log.Save().stream[0].in_file);
  EXPECT_EQ(log.Save().stream[0].inline_bytes, "");
}

TEST_F(OutputLogTest, MakesTheMissingFolderOfItsFiles) {
  OutputLog::Options options = Limit(1 << 20);
  options.path_prefix = folder_ + "/session/command";
  OutputLog log(loop_, options);
  AddInChunks(log, 100'000);
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/session/command.out"));
}

TEST_F(OutputLogTest, KeepsStreamsApart) {
  OutputLog log(loop_, Limit(1 << 20));
  AddInChunks(log, 100'000);
  ASSERT_TRUE(Add(log, 70'000, kErr).ok());
  EXPECT_EQ(Check(log), Gaps());
  EXPECT_EQ(Check(log, 0, 40'000, kErr), Gaps());
  EXPECT_EQ(log.end(kErr), 70'000u);
}

TEST_F(OutputLogTest, DropsNothingUpToTheLimitAndTheMiddleBeyondIt) {
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 200'000);
  EXPECT_EQ(Check(log), Gaps());
  EXPECT_EQ(log.dropped_bytes(), 0u);
  ASSERT_TRUE(Add(log, 1).ok());
  EXPECT_EQ(Check(log), Gaps({"100000-100001 trimmed"}));
  AddInChunks(log, 5'000'000);
  EXPECT_EQ(Check(log), Gaps({"100000-4900000 trimmed"}));
  EXPECT_EQ(log.dropped_bytes(), 4'800'000u);
}

TEST_F(OutputLogTest, ReplaysTheSameBytesFromAnyOffsetAfterTrim) {
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 1'234'567);
  for (uint64_t offset = 0; offset <= log.end(kOut); offset += 12'345) {
    const uint64_t from = std::max<uint64_t>(offset, 100'000);
    const Gaps expected =
        offset < 1'134'567 ? Gaps({std::to_string(from) + "-1134567 trimmed"}) : Gaps();
    EXPECT_EQ(Check(log, offset, 77'777), expected) << offset;
  }
}

TEST_F(OutputLogTest, HonoursLimitsBelowTheInlineSizeAndStillSpillsLongOutput) {
  for (const uint64_t limit : {1ull, 2ull, 1000ull, 65'536ull}) {
    OutputLog log(loop_, Limit(limit));
    AddInChunks(log, 60'000);
    EXPECT_FALSE(OutFileExists());
    const uint64_t from = limit / 2, to = 60'000 - (limit - limit / 2);
    Gaps expected;
    if (limit < 60'000) {
      expected = {std::to_string(from) + "-" + std::to_string(to) + " trimmed"};
    }
    EXPECT_EQ(Check(log), expected);
    AddInChunks(log, 900'000);  // else nothing could be acknowledged to the far side
    EXPECT_EQ(log.on_disk(kOut), 900'000u);
    Check(log);
    log.Remove();
  }
}

TEST_F(OutputLogTest, NeverGrowsAFileBeyondItsBound) {
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 3'000'000, kMaxAppend);
  EXPECT_LE(std::filesystem::file_size(OutPath()), 200'000 + kMaxAppend + 4096);
  Check(log);
}

TEST_F(OutputLogTest, ALiveReaderThatKeepsUpSeesEveryByteOfALongStream) {
  OutputLog log(loop_, Limit(100'000));
  uint64_t next = 0;
  std::mt19937 random(7);
  while (next < 3'000'000) {
    ASSERT_TRUE(Add(log, 1 + random() % 50'000).ok());
    while (next < log.end(kOut)) {
      auto piece = log.ReadAt(kOut, next, 64 << 10);
      ASSERT_TRUE(piece.ok());
      ASSERT_EQ(piece->gap_to, 0u) << "a gap in front of a reader that keeps up, at " << next;
      ASSERT_EQ(piece->data, Bytes(next, next + piece->data.size()));
      next += piece->data.size();
    }
  }
}

TEST_F(OutputLogTest, SkipsBytesThatAreAlreadyHere) {
  OutputLog log(loop_, Limit(1 << 20));
  ASSERT_TRUE(log.Append(kOut, 0, Bytes(0, 1000)).ok());
  ASSERT_TRUE(log.Append(kOut, 0, "not these bytes").ok());
  ASSERT_TRUE(log.Append(kOut, 500, Bytes(500, 1500)).ok());
  EXPECT_EQ(log.end(kOut), 1500u);
  EXPECT_EQ(Check(log), Gaps());
}

TEST_F(OutputLogTest, RefusesAHoleAnOversizeAppendAndOutputAfterTheEnd) {
  OutputLog log(loop_, Limit(1 << 20));
  EXPECT_EQ(ReasonOf(log.Append(kOut, 1, "x")), Reason::k_OFFSET_BEYOND_END);
  EXPECT_EQ(ReasonOf(log.Append(kOut, UINT64_MAX, "x")), Reason::k_OFFSET_BEYOND_END);
  EXPECT_EQ(ReasonOf(log.Append(kOut, 0, std::string(kMaxAppend + 1, 'x'))), Reason::k_BUG);
  log.Finish();
  EXPECT_EQ(ReasonOf(log.Append(kOut, 0, "x")), Reason::k_BUG);
  EXPECT_EQ(log.end(kOut), 0u);
}

TEST_F(OutputLogTest, RefusesToReadBeyondTheEndAndNamesIt) {
  OutputLog log(loop_, Limit(1 << 20));
  ASSERT_TRUE(Add(log, 10).ok());
  EXPECT_TRUE(log.ReadAt(kOut, 10, 1)->data.empty());
  const auto piece = log.ReadAt(kOut, 11, 1);
  EXPECT_EQ(ReasonOf(piece.status()), Reason::k_OFFSET_BEYOND_END);
  EXPECT_EQ(MetadataOf(piece.status()), Metadata({{"end", "10"}}));
}

TEST_F(OutputLogTest, WithoutDroppingRefusesWhatDoesNotFit) {
  OutputLog::Options options = Limit(100'000);
  options.drop_middle = false;
  OutputLog log(loop_, options);
  AddInChunks(log, 99'000);
  EXPECT_EQ(log.room(kOut), 1000u);
  EXPECT_EQ(ReasonOf(Add(log, 1001)), Reason::k_SPOOL_FULL);
  EXPECT_EQ(log.end(kOut), 99'000u);
  ASSERT_TRUE(Add(log, 1000).ok());
  EXPECT_EQ(log.room(kOut), 0u);
  EXPECT_EQ(Check(log), Gaps());
}

TEST_F(OutputLogTest, ReportsWhatTheFarSideLost) {
  OutputLog log(loop_, Limit(1 << 20));
  ASSERT_TRUE(Add(log, 1000).ok());
  log.Skip(kOut, 500);  // nothing: those are here
  log.Skip(kOut, 3000);
  log.Skip(kOut, 4000);  // the same hole goes on
  log.Skip(kOut, UINT64_MAX);
  ASSERT_TRUE(Add(log, 100'000).ok());
  log.Skip(kOut, 200'000);
  EXPECT_EQ(Check(log), Gaps({"1000-4000 lost", "104000-200000 lost"}));
  EXPECT_EQ(Check(log, 2500), Gaps({"2500-4000 lost", "104000-200000 lost"}));
  EXPECT_EQ(log.on_disk(kOut), 200'000u);
  auto again = Reopen(Limit(1 << 20));
  EXPECT_EQ(Check(*again), Gaps({"1000-4000 lost", "104000-200000 lost"}));
}

TEST_F(OutputLogTest, ShowsAHoleAndATrimmedRangeThatMeetAsTwoGaps) {
  OutputLog log(loop_, Limit(200'000));
  ASSERT_TRUE(Add(log, 90'000).ok());
  log.Skip(kOut, 350'000);
  EXPECT_EQ(Check(log), Gaps({"90000-100000 lost", "100000-250000 trimmed", "250000-350000 lost"}));
  ASSERT_TRUE(Add(log, 60'000).ok());
  EXPECT_EQ(Check(log), Gaps({"90000-100000 lost", "100000-310000 trimmed", "310000-350000 lost"}));
}

TEST_F(OutputLogTest, MergesTheLastHolesWhenThereAreTooMany) {
  OutputLog log(loop_, Limit(1 << 20));
  for (size_t i = 0; i < kMaxHoles + 2; ++i) {
    ASSERT_TRUE(Add(log, 10).ok());
    log.Skip(kOut, log.end(kOut) + 10);
  }
  const Gaps gaps = Check(log);
  ASSERT_EQ(gaps.size(), kMaxHoles);
  EXPECT_EQ(gaps[6], "130-140 lost");
  EXPECT_EQ(gaps[7], "150-200 lost");
}

TEST_F(OutputLogTest, FindsWhereTheLastBytesStartAcrossGaps) {
  OutputLog log(loop_, Limit(200'000));
  EXPECT_EQ(log.TailOffset(kOut, 10), 0u);
  AddInChunks(log, 1'000'000);
  EXPECT_EQ(log.TailOffset(kOut, 0), 1'000'000u);
  EXPECT_EQ(log.TailOffset(kOut, 1), 999'999u);
  EXPECT_EQ(log.TailOffset(kOut, 100'000), 900'000u);
  EXPECT_EQ(log.TailOffset(kOut, 100'001), 99'999u);
  EXPECT_EQ(log.TailOffset(kOut, 200'000), 0u);
  EXPECT_EQ(log.TailOffset(kOut, UINT64_MAX), 0u);
  log.Skip(kOut, 1'000'100);
  EXPECT_EQ(log.TailOffset(kOut, 1), 999'999u);
}

Task<void> CountWakes(OutputLog* log, int* wakes) {
  while (!log->finished()) {
    co_await log->changed().Wait();
    ++*wakes;
  }
}

TEST_F(OutputLogTest, WakesReadersOnAppendSkipAndFinishOnly) {
  OutputLog log(loop_, Limit(1 << 20));
  int wakes = 0;
  asio::co_spawn(loop_.context(), CountWakes(&log, &wakes), asio::detached);
  loop_.RunReady();
  const std::function<void()> steps[] = {[&] { Add(log, 5).IgnoreError(); },
                                         [&] { log.Skip(kOut, 10); }, [&] { log.Finish(); }};
  int expected = 0;
  for (const auto& step : steps) {
    log.Append(kOut, 0, "").IgnoreError();
    log.Append(kOut, 1000, "x").IgnoreError();
    log.Skip(kOut, 0);
    loop_.RunReady();
    EXPECT_EQ(wakes, expected) << "woken for nothing";
    step();
    loop_.RunReady();
    EXPECT_EQ(wakes, ++expected);
  }
}

TEST_F(OutputLogTest, IsReadableAfterFinishWithoutHoldingADescriptor) {
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator());
  };
  const auto before = descriptors();
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 500'000);
  EXPECT_EQ(descriptors(), before + 1);
  log.Finish();
  EXPECT_EQ(descriptors(), before);
  EXPECT_EQ(Check(log), Gaps({"100000-400000 trimmed"}));
  EXPECT_EQ(descriptors(), before);
}

TEST_F(OutputLogTest, RestoresInlineOutputFromTheRow) {
  OutputLog log(loop_, Limit(50'000));
  AddInChunks(log, 60'000);
  log.Skip(kOut, 60'500);
  auto again = Reopen(Limit(50'000), log.Save());
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->end(kOut), 60'500u);
  EXPECT_EQ(Check(*again), Gaps({"25000-35500 trimmed", "60000-60500 lost"}));
  AddInChunks(*again, 300'000);
  Check(*again);
}

TEST_F(OutputLogTest, RestoresFromTheFileWhenTheRowIsOlderOrDoesNotKnowIt) {
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 100'000);
  const OutputLog::Saved row = log.Save();
  AddInChunks(log, 700'000);
  for (const OutputLog::Saved& saved : {row, OutputLog::Saved()}) {
    auto again = Reopen(Limit(200'000), saved);
    ASSERT_NE(again, nullptr);
    EXPECT_EQ(again->end(kOut), 700'000u);
    EXPECT_EQ(again->on_disk(kOut), 700'000u);
    EXPECT_EQ(Check(*again), Gaps({"100000-600000 trimmed"}));
  }
  auto again = Reopen(Limit(200'000), row);
  AddInChunks(*again, 900'000);
  EXPECT_EQ(Check(*again), Gaps({"100000-800000 trimmed"}));
}

TEST_F(OutputLogTest, IgnoresTheFileOfAnotherCommandUnlessTheRowCountsOnIt) {
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 100'000);
  OutputLog::Options other = Limit(200'000);
  other.tag = "another run";
  auto fresh = Reopen(other);
  ASSERT_NE(fresh, nullptr);
  EXPECT_EQ(fresh->end(kOut), 0u);
  EXPECT_EQ(ReasonOf(OutputLog::Restore(loop_, other, log.Save()).status()),
            Reason::k_STORE_CORRUPT);
}

TEST_F(OutputLogTest, SaysStoreCorruptForAMissingShortOrDamagedFile) {
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 100'000);
  const OutputLog::Saved row = log.Save();
  const auto restored = [&](OutputLog::Saved saved) {
    return ReasonOf(OutputLog::Restore(loop_, Limit(200'000), std::move(saved)).status());
  };
  OutputLog::Saved ahead = row;
  ahead.stream[0].end++;
  EXPECT_EQ(restored(ahead), Reason::k_STORE_CORRUPT);
  EXPECT_EQ(ReasonOf(OutputLog::Restore(loop_, Limit(150'000), row).status()),
            Reason::k_STORE_CORRUPT);
  ASSERT_EQ(truncate(OutPath().c_str(), 4096 + 99'999), 0);
  EXPECT_EQ(restored(row), Reason::k_STORE_CORRUPT);
  EXPECT_EQ(ReasonOf(log.ReadAt(kOut, 99'990, 100).status()), Reason::k_STORE_CORRUPT);
  ASSERT_EQ(truncate(OutPath().c_str(), 4096 + 200'000), 0);  // longer is harmless
  EXPECT_EQ(restored(row), std::nullopt);
  const int fd = open(OutPath().c_str(), O_WRONLY);
  ASSERT_EQ(pwrite(fd, "?", 1, 90), 1);
  close(fd);
  EXPECT_EQ(restored(row), Reason::k_STORE_CORRUPT);
  EXPECT_EQ(restored({}), std::nullopt) << "a broken spill that the row does not know of";
  log.Remove();
  EXPECT_EQ(restored(row), Reason::k_STORE_CORRUPT);
}

TEST_F(OutputLogTest, SaysStoreCorruptForAnImpossibleRow) {
  const auto restored = [&](OutputLog::StreamState state) {
    OutputLog::Saved saved;
    saved.stream[1] = std::move(state);
    return ReasonOf(OutputLog::Restore(loop_, Limit(1000), std::move(saved)).status());
  };
  EXPECT_EQ(restored({5, {}, false, "12345"}), std::nullopt);
  EXPECT_EQ(restored({5, {{3, 5}}, false, "123"}), std::nullopt);
  EXPECT_EQ(restored({5, {}, false, "123"}), Reason::k_STORE_CORRUPT);
  EXPECT_EQ(restored({5, {{4, 4}}, false, "12345"}), Reason::k_STORE_CORRUPT);
  EXPECT_EQ(restored({5, {{0, 6}}, false, ""}), Reason::k_STORE_CORRUPT);
  EXPECT_EQ(restored({9, {{4, 6}, {5, 9}}, false, "1234"}), Reason::k_STORE_CORRUPT);
  EXPECT_EQ(restored({UINT64_MAX, {{0, UINT64_MAX}}, false, ""}), Reason::k_STORE_CORRUPT);
}

TEST_F(OutputLogTest, RemovesItsFiles) {
  OutputLog log(loop_, Limit(200'000));
  AddInChunks(log, 100'000);
  OutputLog::RemoveFiles(folder_ + "/log");
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

// While alive, no file may grow beyond `bytes`: a full disk as pwrite sees it, mid-write included.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(uint64_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST_F(OutputLogTest, IsAsBeforeAnAppendThatTheDiskCutsInTheMiddle) {
  OutputLog log(loop_, Limit(1 << 20));
  AddInChunks(log, 100'000);
  {
    FileSizeLimit full(4096 + 130'000);
    EXPECT_EQ(ReasonOf(Add(log, 50'000)), Reason::k_DISK_FULL);
    EXPECT_EQ(log.end(kOut), 100'000u);
    EXPECT_EQ(Check(log), Gaps());
    EXPECT_EQ(Check(*Reopen(Limit(1 << 20), log.Save())), Gaps());
    ASSERT_TRUE(Add(log, 20'000).ok()) << "what still fits";
  }
  AddInChunks(log, 300'000);
  EXPECT_EQ(Check(log), Gaps());
  EXPECT_EQ(Check(*Reopen(Limit(1 << 20))), Gaps());
}

TEST_F(OutputLogTest, StaysInMemoryWhenTheDiskIsTooFullToSpill) {
  OutputLog log(loop_, Limit(1 << 20));
  AddInChunks(log, kInlineBytes);
  for (const uint64_t room : {0ull, 100ull, 30'000ull, 4096ull + kInlineBytes}) {
    FileSizeLimit full(room);
    EXPECT_EQ(ReasonOf(Add(log, 1)), Reason::k_DISK_FULL) << room;
    EXPECT_FALSE(OutFileExists());
    EXPECT_EQ(log.on_disk(kOut), 0u);
    EXPECT_EQ(Check(log), Gaps());
  }
  AddInChunks(log, 100'000);
  EXPECT_EQ(Check(log), Gaps());
}

TEST_F(OutputLogTest, KeepsTheTrimmedTailIntactWhenAnAppendFails) {
  OutputLog log(loop_, Limit(300'000));
  AddInChunks(log, 310'000);
  const Gaps before = Check(log);
  {
    FileSizeLimit full(4096 + 310'000);
    EXPECT_EQ(ReasonOf(Add(log, 200'000)), Reason::k_DISK_FULL);
    EXPECT_EQ(Check(log), before);
  }
  AddInChunks(log, 2'000'000);
  Check(log);
}

// Appends pieces of random size as fast as it can and reports each on_disk() until it is killed.
[[noreturn]] void AppendUntilKilled(const OutputLog::Options& options, int report, unsigned seed) {
  Loop loop;
  OutputLog log(loop, options);
  std::mt19937 random(seed);
  while (true) {
    const uint64_t from = log.end(kOut);
    const uint64_t size = 1 + random() % (random() % 4 == 0 ? kMaxAppend : 5000);
    if (!log.Append(kOut, from, Bytes(from, from + size)).ok()) _exit(1);
    const uint64_t safe = log.on_disk(kOut);
    if (write(report, &safe, sizeof(safe)) != sizeof(safe)) _exit(1);
  }
}

TEST_F(OutputLogTest, KeepsEveryAcknowledgedByteThroughKillAtAnyMoment) {
  const OutputLog::Options options = Limit(150'000);
  std::mt19937 random(20261120);
  uint64_t most = 0;
  for (unsigned round = 0; round < 200; ++round) {
    OutputLog::RemoveFiles(options.path_prefix);
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t child = fork();
    if (child == 0) AppendUntilKilled(options, pipe_fds[1], round);
    close(pipe_fds[1]);
    uint64_t acknowledged = 0;
    const auto next = [&] { return read(pipe_fds[0], &acknowledged, 8) == 8; };
    for (unsigned wait = random() % 30; wait > 0; --wait) ASSERT_TRUE(next());
    for (volatile unsigned spin = random() % 50'000; spin > 0; spin = spin - 1) continue;
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    while (next()) continue;
    close(pipe_fds[0]);

    auto log = Reopen(options);
    ASSERT_NE(log, nullptr);
    ASSERT_GE(log->end(kOut), acknowledged);
    const uint64_t end = log->end(kOut);
    const Gaps expected =
        end <= 150'000 ? Gaps() : Gaps({"75000-" + std::to_string(end - 75'000) + " trimmed"});
    ASSERT_EQ(Check(*log), expected) << "round " << round;
    ASSERT_TRUE(Add(*log, 10'000).ok());
    Check(*log);
    most = std::max(most, end);
  }
  EXPECT_GT(most, 150'000 + 2 * kMaxAppend) << "no round went around the ring";
}

}  // namespace
}  // namespace hermes
