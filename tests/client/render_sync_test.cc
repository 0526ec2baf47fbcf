#include "client/render_sync.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/json.h"
#include "client/progress.h"

namespace hermes::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::SyncEntry Entry(const std::string& path, v1::SyncEntry::Effect effect, v1::SyncEntry::Fate fate,
                    v1::SyncEntry::Why why) {
  v1::SyncEntry entry;
  entry.set_mount("src");
  entry.set_path(path);
  entry.set_effect(effect);
  entry.set_fate(fate);
  entry.set_why(why);
  return entry;
}

SyncRecord Record(v1::SyncJob::Kind kind, v1::SyncJob::State state = v1::SyncJob::DONE) {
  SyncRecord record;
  record.job.set_name("sessions/box/syncs/s1");
  record.job.set_kind(kind);
  record.job.set_state(state);
  return record;
}

TEST(RenderEntriesTest, IsATableWithThePathLast) {
  v1::SyncEntry conflict =
      Entry("b/c.txt", v1::SyncEntry::BESIDE, v1::SyncEntry::DONE, v1::SyncEntry::CONFLICT);
  conflict.set_size(1536);
  conflict.set_aside("b/c.conflict-box.txt");
  v1::SyncEntry odd =
      Entry("pipe", v1::SyncEntry::NOTHING, v1::SyncEntry::PLANNED, v1::SyncEntry::ODD);
  odd.set_note("a fifo");
  EXPECT_EQ(RenderEntries({conflict, odd}, {}),
            "MOUNT  EFFECT   FATE  SIZE     WHY          PATH\n"
            "src    BESIDE   DONE  1.5 KiB  CONFLICT     b/c.txt -> b/c.conflict-box.txt\n"
            "src    NOTHING  -     -        ODD: a fifo  pipe\n");
}

TEST(RenderEntriesTest, HostileNamesAreOneHarmlessLineEach) {
  std::string hostile = "a\x1b[2J\x1b]0;x\x07\r\n\t\x7f\xc2\x9b";
  hostile += "\xe2\x80\xae\xe2\x81\xa6\xff\xc0\xaf end";
  v1::SyncEntry entry =
      Entry(hostile, v1::SyncEntry::BESIDE, v1::SyncEntry::DONE, v1::SyncEntry::LIE);
  entry.set_aside(hostile);
  entry.set_note(hostile);
  entry.set_mount(hostile);
  const std::string text = RenderEntries({entry, entry}, {.now_seconds = 0, .colour = true});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  for (const char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c < 0x7f)) << int{c};
  EXPECT_THAT(text, HasSubstr(R"(a\x1b[2J\x1b]0;x\x07\x0d\n\t\x7f\u{9b})"));
  EXPECT_THAT(text, HasSubstr(R"(\u{202e}\u{2066}\xff\xc0\xaf end)"));
}

TEST(RenderEntriesTest, HostileWordsOfTheSandboxAreHarmlessInMessages) {
  SyncRecord record = Record(v1::SyncJob::PULL, v1::SyncJob::FAILED);
  record.job.set_name("sessions/\x1b[31m/syncs/\n");
  record.job.set_message("a\nb\x1b[2J");
  record.job.set_suspect(true);
  const std::string text = DescribeSync(record);
  for (const char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c < 0x7f)) << int{c};
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(DescribeSyncTest, SaysWhatWasDoneAndWhatCanBeDone) {
  SyncRecord pull = Record(v1::SyncJob::PULL);
  pull.job.set_applied(3);
  pull.job.set_conflicts(1);
  pull.job.set_held(2);
  pull.job.set_unsaved(1);
  pull.job.set_revertible(true);
  EXPECT_EQ(DescribeSync(pull),
            "hermesctl: box/s1: brought back 3 files, 1 conflict, 2 deletions held back\n"
            "  hermesctl sync-back box --approve-deletes takes the deletions over, too\n"
            "  1 file of the sandbox is not on the host, though the mounts would have it\n"
            "  hermesctl undo box/s1 takes it back\n");
  SyncRecord push = Record(v1::SyncJob::PUSH);
  push.job.set_applied(1);
  EXPECT_EQ(DescribeSync(push), "hermesctl: box/s1: sent 1 file\n");
  SyncRecord plan = Record(v1::SyncJob::PLAN);
  plan.entries = {
      Entry("a", v1::SyncEntry::CREATE, v1::SyncEntry::PLANNED, v1::SyncEntry::REMOTE_CHANGED),
      Entry("b", v1::SyncEntry::NOTHING, v1::SyncEntry::PLANNED, v1::SyncEntry::DENIED)};
  EXPECT_THAT(DescribeSync(plan), HasSubstr("a dry run: 1 file would change, nothing was touched"));
  SyncRecord undo = Record(v1::SyncJob::REVERT);
  undo.job.set_of_sync("sessions/box/syncs/s0");
  undo.job.set_applied(2);
  EXPECT_THAT(DescribeSync(undo), HasSubstr("took back 2 files of box/s0"));
}

TEST(DescribeSyncTest, SaysWhyItFailed) {
  SyncRecord lied = Record(v1::SyncJob::PULL, v1::SyncJob::FAILED);
  lied.job.set_reason("SYNC_FAILED");
  lied.job.set_message("the stream is broken");
  lied.job.set_suspect(true);
  EXPECT_EQ(DescribeSync(lied),
            "hermesctl: box/s1: the stream is broken [SYNC_FAILED]\n"
            "  the sandbox lied: hermesctl sync-back box --salvage takes what is in order\n");
  EXPECT_THAT(DescribeSync(Record(v1::SyncJob::PULL, v1::SyncJob::INTERRUPTED)),
              HasSubstr("its old or its new version"));
}

TEST(DescribeSyncTest, SaysThatEntriesAreMissing) {
  SyncRecord record = Record(v1::SyncJob::PUSH);
  record.entries = {
      Entry("a", v1::SyncEntry::CREATE, v1::SyncEntry::DONE, v1::SyncEntry::HOST_CHANGED)};
  record.job.set_entries_total(60'000);
  EXPECT_THAT(DescribeSync(record), HasSubstr("only the first 1 of 60000 entries are shown"));
}

TEST(DescribeLeftTest, NamesWhatWasRejectedUpToALimit) {
  SyncRecord pull = Record(v1::SyncJob::PULL);
  EXPECT_EQ(DescribeLeft(pull), "");
  pull.entries = {
      Entry("took", v1::SyncEntry::CREATE, v1::SyncEntry::DONE, v1::SyncEntry::REMOTE_CHANGED),
      Entry("d/.env\x1b", v1::SyncEntry::NOTHING, v1::SyncEntry::PLANNED, v1::SyncEntry::ODD),
      Entry("held", v1::SyncEntry::NOTHING, v1::SyncEntry::PLANNED, v1::SyncEntry::HELD)};
  pull.entries[1].set_note("why it stays");
  pull.job.set_rejected(1);
  const std::string text = DescribeLeft(pull);
  EXPECT_THAT(text, HasSubstr(R"(ODD: why it stays  d/.env\x1b)"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
  for (int i = 0; i < 30; ++i) pull.entries.push_back(pull.entries[1]);
  pull.job.set_rejected(60'000);
  const std::string long_text = DescribeLeft(pull);
  EXPECT_EQ(std::count(long_text.begin(), long_text.end(), '\n'), 22) << long_text;
  EXPECT_THAT(long_text, HasSubstr("\n  59980 more rejected: hermesctl syncs box/s1 lists them\n"));
  pull.entries.clear();
  EXPECT_EQ(DescribeLeft(pull), "  60000 rejected: hermesctl syncs box/s1 lists them\n");
}

TEST(SyncExitCodeTest, IsZeroOnlyWhenNothingIsLeftToDecide) {
  EXPECT_EQ(SyncExitCode(Record(v1::SyncJob::PULL)), 0);
  for (const auto state : {v1::SyncJob::FAILED, v1::SyncJob::INTERRUPTED, v1::SyncJob::RUNNING,
                           v1::SyncJob::STATE_UNSPECIFIED}) {
    EXPECT_EQ(SyncExitCode(Record(v1::SyncJob::PUSH, state)), 125);
  }
  SyncRecord pull = Record(v1::SyncJob::PULL);
  pull.job.set_conflicts(1);
  pull.job.set_rejected(1);
  EXPECT_EQ(SyncExitCode(pull), 0) << "the losing side is kept, and oddities are no files";
  SyncRecord unsaved = pull;
  unsaved.job.set_unsaved(1);
  EXPECT_EQ(SyncExitCode(unsaved), 1);
  SyncRecord held = pull;
  held.job.set_held(1);
  EXPECT_EQ(SyncExitCode(held), 1);
  held.job.set_kind(v1::SyncJob::PLAN);
  EXPECT_EQ(SyncExitCode(held), 0) << "a plan is what was asked for";
  SyncRecord undo = Record(v1::SyncJob::REVERT);
  undo.entries = {
      Entry("a", v1::SyncEntry::REPLACE, v1::SyncEntry::CHANGED, v1::SyncEntry::CONFLICT)};
  EXPECT_EQ(SyncExitCode(undo), 1) << "edited since";
}

TEST(RenderSyncsTest, IsATable) {
  v1::SyncJob job = Record(v1::SyncJob::PULL, v1::SyncJob::FAILED).job;
  job.set_reason("SYNC_HELD");
  job.set_revertible(true);
  job.mutable_create_time()->set_seconds(100);
  const std::string text = RenderSyncs({job}, {.now_seconds = 130, .colour = false});
  EXPECT_THAT(text, HasSubstr("box/s1  PULL  FAILED"));
  EXPECT_THAT(text, HasSubstr("30s  yes   SYNC_HELD"));
}

TEST(JsonSyncTest, NamesAreTextWithTheBytesBesideAndDigestsAreHex) {
  v1::SyncEntry entry =
      Entry("n\xff", v1::SyncEntry::CREATE, v1::SyncEntry::DONE, v1::SyncEntry::REMOTE_CHANGED);
  entry.set_remote_sha256(std::string("\x00\xab", 2));
  const std::string json = ToJson(entry, JsonStyle::kOneLine);
  EXPECT_THAT(json, HasSubstr(R"("path":"n\\xff","path_b64":"bv8=")"));
  EXPECT_THAT(json, HasSubstr(R"("host_sha256":"","remote_sha256":"00ab")"));
}

v1::SyncProgress Progress(uint64_t files, uint64_t all_files, uint64_t bytes, uint64_t all_bytes) {
  v1::SyncProgress progress;
  progress.set_files_done(files);
  progress.set_files_total(all_files);
  progress.set_bytes_done(bytes);
  progress.set_bytes_total(all_bytes);
  return progress;
}

TEST(ProgressLineTest, ShowsFilesAndBytesDoneAndTotal) {
  EXPECT_EQ(ProgressLine("fetching", Progress(120, 581, 1536, 3072), 79),
            "fetching  [==============>              ]   50%  120/581 files  1.5 KiB/3.0 KiB");
  EXPECT_EQ(ProgressLine("landing", Progress(581, 581, 0, 0), 44),
            "landing  [============]  100%  581/581 files");
  EXPECT_EQ(ProgressLine("scanning", Progress(0, 0, 0, 0), 79), "scanning");
}

TEST(ProgressLineTest, FitsIntoAnyWidth) {
  const v1::SyncProgress much = Progress(~uint64_t{0}, 1, ~uint64_t{0}, 1);
  for (size_t columns = 0; columns < 200; ++columns) {
    EXPECT_LE(ProgressLine("comparing", much, columns).size(), columns);
  }
  EXPECT_THAT(ProgressLine("comparing", Progress(1, 2, 0, 0), 30), Not(HasSubstr("[")));
  EXPECT_THAT(ProgressLine("\x1b[2J\n", Progress(0, 0, 0, 0), 79), HasSubstr(R"(\x1b[2J\n)"));
}

}  // namespace
}  // namespace hermes::client
