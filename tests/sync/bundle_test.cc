#include "sync/bundle.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/sync/bundle_stand.h"
#include "tests/sync/hostile_corpus.h"
#include "tests/sync/process.h"
#include "tests/sync/tar_bytes.h"
#include "tests/sync/unpack_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
using Then = ScriptedSource::Then;

// What came of a stream, and what must hold whatever came of it.
std::string Judge(BundleStand& stand, const absl::StatusOr<BundleResult>& result) {
  const std::map<std::string, std::string> files = stand.staged();
  if (!result.ok()) {
    EXPECT_TRUE(files.empty());
    EXPECT_TRUE(stand.quarantined().empty());
    return std::string(Word(Verdict::kFailed));
  }
  EXPECT_EQ(files.size(), result->staged.size());
  for (const StagedFile& file : result->staged) {
    const std::string& content = files.at(StagedName(file.index));
    EXPECT_EQ(file.content.digest, DigestOf(content));
    EXPECT_EQ(file.content.size, content.size());
  }
  EXPECT_EQ(result->quarantined, !result->lies.empty());
  EXPECT_EQ(stand.quarantined().size(), result->lies.empty() ? 0U : 1U);
  if (!result->lies.empty()) return std::string(Word(Verdict::kLie));
  return std::string(Word(result->oddities.empty() ? Verdict::kClean : Verdict::kOdd));
}

std::map<std::string, std::string> ByName(const BundleStand& stand, const BundleResult& result) {
  std::map<std::string, std::string> files;
  for (const StagedFile& file : result.staged) {
    files[CorpusNames()[file.index]] = stand.staged()[StagedName(file.index)];
  }
  return files;
}

void Clear(const BundleStand& stand) {
  for (const char* folder : {"/mount/.stage", "/quarantine"}) {
    for (const auto& entry : fs::directory_iterator(stand.path() + folder)) fs::remove(entry);
  }
}

std::string Honest() { return HostileCorpus().front().bytes; }

std::string Lying() { return tar::File("first", "f") + tar::File("evil", "e") + tar::End(); }

TEST(BundleTest, StagesWantedFilesUnderTheirNumbers) {
  BundleStand stand;
  const std::string bytes = tar::File("first", "one") +
                            tar::File({.name = "lnk/x", .mode = "0000755"}, "two") + tar::End();
  auto result = stand.Receive(stand.SpecFor(CorpusNames()), bytes);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(stand.staged(), (std::map<std::string, std::string>{{"0", "one"}, {"4", "two"}}));
  ASSERT_EQ(result->staged.size(), 2U);
  EXPECT_EQ(result->staged[0].content, (Content{DigestOf("one"), 3, false}));
  EXPECT_EQ(result->staged[1].content, (Content{DigestOf("two"), 3, true}));
  EXPECT_EQ(result->missing, (std::vector<uint32_t>{1, 2, 3, 5, 6}));
  struct stat about{};
  ASSERT_EQ(stat((stand.path() + "/mount/.stage/4").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600U);
}

TEST(BundleTest, EveryHostileStreamGetsItsVerdictAndTouchesNothing) {
  BundleStand stand;
  const std::string before = stand.Outside();
  for (const HostileCase& hostile : HostileCorpus()) {
    auto result = stand.Receive(stand.SpecFor(CorpusNames()), hostile.bytes);
    EXPECT_EQ(Judge(stand, result), Word(hostile.verdict)) << hostile.name << result.status();
    if (result.ok()) EXPECT_EQ(ByName(stand, *result), hostile.staged) << hostile.name;
    ASSERT_EQ(stand.Outside(), before) << hostile.name;
    Clear(stand);
  }
}

TEST(BundleTest, StreamsThatAreCutApplyNothing) {
  BundleStand stand;
  const std::string before = stand.Outside();
  size_t number = 0;
  for (const HostileCase& hostile : HostileCorpus()) {
    if (!hostile.small) continue;
    for (size_t cut = 0; cut < hostile.bytes.size(); cut += 512) {
      if (!Deep() && ++number % 5 != 0) continue;
      const std::string bytes = hostile.bytes.substr(0, cut);
      const std::string expected(Word(Unpack(RequestFor(CorpusNames()), bytes).verdict));
      auto result = stand.Receive(stand.SpecFor(CorpusNames()), bytes);
      EXPECT_EQ(Judge(stand, result), expected) << hostile.name << " cut at " << cut;
      Clear(stand);
    }
  }
  EXPECT_EQ(stand.Outside(), before);
}

TEST(BundleTest, ChangedHeaderBytesApplyNothingElse) {
  BundleStand stand;
  const std::string before = stand.Outside();
  size_t number = 0;
  for (const HostileCase& hostile : HostileCorpus()) {
    if (!hostile.small) continue;
    for (size_t at = 0; at < std::min<size_t>(hostile.bytes.size(), 8192); ++at) {
      if (++number % (Deep() ? 211 : 997) != 0) continue;  // all of them: UnpackCorpusTest
      std::string bytes = hostile.bytes;
      bytes[at] = static_cast<char>(~bytes[at]);
      const Unpacked expected = Unpack(RequestFor(CorpusNames()), bytes);
      auto result = stand.Receive(stand.SpecFor(CorpusNames()), bytes);
      EXPECT_EQ(Judge(stand, result), Word(expected.verdict)) << hostile.name << " at " << at;
      if (result.ok() && result->lies.empty()) {
        EXPECT_EQ(ByName(stand, *result), expected.staged) << hostile.name << " at " << at;
      }
      Clear(stand);
    }
  }
  EXPECT_EQ(stand.Outside(), before);
}

TEST(BundleTest, ThingsInTheStageAreNeverWrittenThrough) {
  for (const char* kind : {"symlink", "dangling", "fifo", "hard link"}) {
    BundleStand stand;
    const std::string place = stand.path() + "/mount/.stage/0";
    if (kind == std::string_view("symlink")) fs::create_symlink("../../outside/secret", place);
    if (kind == std::string_view("dangling")) fs::create_symlink("../../outside/new", place);
    if (kind == std::string_view("fifo")) ASSERT_EQ(mkfifo(place.c_str(), 0600), 0);
    if (kind == std::string_view("hard link")) {
      fs::create_hard_link(stand.path() + "/outside/secret", place);
    }
    const std::string before = stand.Outside();
    auto result = stand.Receive(stand.SpecFor(CorpusNames()), Honest());
    EXPECT_EQ(ReasonOf(result.status()), Reason::k_SYNC_FAILED) << kind;
    EXPECT_EQ(stand.Outside(), before) << kind;
  }
}

TEST(BundleTest, KeepsTheBeginningOfALyingStreamInQuarantine) {
  BundleStand stand;
  BundleSpec spec = stand.SpecFor(CorpusNames());
  spec.max_quarantine_bytes = 1000;
  auto result = stand.Receive(std::move(spec), Lying(), {.piece = 700});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->lies.size(), 1U);
  EXPECT_EQ(result->lies[0].what, unpack::LieKind::kUnrequested);
  EXPECT_EQ(result->lies[0].name, "evil");
  EXPECT_TRUE(result->staged.empty());
  EXPECT_TRUE(stand.staged().empty());
  EXPECT_EQ(stand.quarantined()["stream"], Lying().substr(0, 1000));
  struct stat about{};
  ASSERT_EQ(stat((stand.path() + "/quarantine/stream").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600U);
}

TEST(BundleTest, SaysSoWhenNoQuarantineCanBeKept) {
  BundleStand stand;
  Spit(stand.path() + "/quarantine/stream", "an older one");
  auto result = stand.Receive(stand.SpecFor(CorpusNames()), Lying());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->quarantined);
  EXPECT_EQ(stand.quarantined()["stream"], "an older one");
}

TEST(BundleTest, SalvageKeepsWhatIsInOrderAndTellsTheLies) {
  BundleStand stand;
  BundleSpec spec = stand.SpecFor(CorpusNames());
  spec.salvage = true;
  const std::string bytes = tar::File("first", "1") + tar::File("../evil", "e") +
                            tar::File("first", "2") + tar::File("last", "3") + tar::End();
  auto result = stand.Receive(std::move(spec), bytes);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->lies.size(), 2U);
  EXPECT_EQ(ByName(stand, *result),
            (std::map<std::string, std::string>{{"first", "1"}, {"last", "3"}}));
}

TEST(BundleTest, SalvageThatCannotWriteIsNoSuccess) {
  BundleStand stand;
  fs::create_symlink("../../outside/new", stand.path() + "/mount/.stage/6");
  BundleSpec spec = stand.SpecFor(CorpusNames());
  ASSERT_EQ(spec.wanted[6].path.str(), "last");
  spec.salvage = true;
  const std::string bytes =
      tar::File("first", "1") + tar::File("evil", "e") + tar::File("last", "3") + tar::End();
  auto result = stand.Receive(std::move(spec), bytes);
  EXPECT_EQ(ReasonOf(result.status()), Reason::k_SYNC_FAILED) << result.status();
  EXPECT_FALSE(stand.staged().contains("0"));
}

TEST(BundleTest, SalvageOfABrokenStreamKeepsWholeFilesOnly) {
  BundleStand stand;
  BundleSpec spec = stand.SpecFor(CorpusNames());
  spec.salvage = true;
  const std::string bytes = tar::File("first", "1") + tar::File("evil", "e") +
                            tar::File("last", std::string(9000, 'x')).substr(0, 3000);
  auto result = stand.Receive(std::move(spec), bytes);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(stand.staged(), (std::map<std::string, std::string>{{"0", "1"}}));
}

TEST(BundleTest, AStreamThatNeverEndsIsStoppedAtTheLie) {
  BundleStand stand;
  auto result = stand.Receive(stand.SpecFor(CorpusNames()), Lying(), {.then = Then::kRepeat});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->lies.empty());
}

TEST(BundleTest, ALostConnectionIsTheSourcesOwnError) {
  BundleStand stand;
  auto result =
      stand.Receive(stand.SpecFor(CorpusNames()), Honest().substr(0, 1500), {.then = Then::kFail});
  EXPECT_EQ(ReasonOf(result.status()), Reason::k_BACKEND_UNREACHABLE) << result.status();
  EXPECT_TRUE(stand.staged().empty());
  EXPECT_TRUE(stand.quarantined().empty());
}

TEST(BundleTest, TellsProgressUpToTheWhole) {
  BundleStand stand;
  BundleSpec spec = stand.SpecFor(CorpusNames());
  uint32_t files = 0;
  uint64_t bytes = 0;
  spec.on_progress = [&](uint32_t f, uint64_t b) {
    EXPECT_GE(f, files);
    EXPECT_GE(b, bytes);
    files = f;
    bytes = b;
  };
  ASSERT_TRUE(stand.Receive(std::move(spec), Honest()).ok());
  EXPECT_EQ(files, 3U);
  EXPECT_EQ(bytes, 12U + 7U + 11U);
}

TEST(BundleTest, ManyFilesAndABigOneComeWhole) {
  BundleStand stand;
  std::vector<std::string> names;
  std::string bytes;
  for (int i = 0; i < 3000; ++i) {
    names.push_back("folder/" + std::to_string(i));
    bytes += tar::File(names.back(), std::to_string(i));
  }
  names.emplace_back("big");
  bytes += tar::File("big", std::string(20 << 20, 'b')) + tar::End();
  BundleSpec spec = stand.SpecFor(names);
  spec.wanted.back().max_bytes = 32 << 20;
  spec.max_total_bytes = 64 << 20;
  spec.max_members = 5000;
  auto result = stand.Receive(std::move(spec), bytes, {.piece = 1 << 20});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->staged.size(), names.size());
  EXPECT_EQ(result->staged.back().content.digest, DigestOf(std::string(20 << 20, 'b')));
  EXPECT_TRUE(result->missing.empty());
}

// A program in the place of hermes-unpack, as if a stream had taken that over.
BundleSpec WithProgram(const BundleStand& stand, const std::string& script) {
  const std::string path = stand.path() + "/quarantine/../program";
  Spit(path, "#!/bin/sh\n" + script + "\n");
  EXPECT_EQ(chmod(path.c_str(), 0700), 0);
  BundleSpec spec = stand.SpecFor(CorpusNames());
  spec.program = path;
  return spec;
}

TEST(BundleTest, AParserThatBreaksIsALieAndAppliesNothing) {
  using unpack::Record;
  using Records = std::vector<Record>;
  const unpack::Hello hello;
  const unpack::End end{unpack::End::How::kComplete};
  const std::string most(kCorpusMaxFile, 'x');
  const std::map<std::string, Records> wrong = {
      {"no end", {hello, unpack::File{0, 1, false}, unpack::Data{"x"}}},
      {"no hello", {unpack::File{0, 1, false}, unpack::Data{"x"}, end}},
      {"an index beyond the list", {hello, unpack::File{7, 1, false}, unpack::Data{"x"}, end}},
      {"a file twice", {hello, unpack::File{0, 0, false}, unpack::File{0, 0, false}, end}},
      {"more than announced", {hello, unpack::File{0, 1, false}, unpack::Data{"xx"}, end}},
      {"less than announced", {hello, unpack::File{0, 2, false}, unpack::Data{"x"}, end}},
      {"beyond its limit",
       {hello, unpack::File{0, kCorpusMaxFile + 1, false}, unpack::Data{most}, unpack::Data{"x"},
        end}},
      {"bytes of no file", {hello, unpack::Data{"x"}, end}},
      {"a copy of nothing", {hello, unpack::Copy{0, 1}, end}},
      {"a copy of itself", {hello, unpack::Copy{0, 0}, end}},
      {"something behind the end", {hello, end, end}},
  };
  for (const auto& [what, records] : wrong) {
    BundleStand stand;
    std::string bytes;
    for (const Record& record : records) unpack::Encode(bytes, record);
    Spit(stand.path() + "/records", bytes);
    auto result =
        stand.Receive(WithProgram(stand, "exec cat " + stand.path() + "/records"), Honest());
    ASSERT_TRUE(result.ok()) << what << result.status();
    ASSERT_EQ(result->lies.size(), 1U) << what;
    EXPECT_EQ(result->lies[0].what, unpack::LieKind::kParserBroken) << what;
    EXPECT_TRUE(result->staged.empty() && stand.staged().empty()) << what;
  }
}

TEST(BundleTest, AParserThatCrashesOrBabblesIsALie) {
  for (const char* script : {"exit 0", "exit 1", "kill -SEGV $$", "kill -KILL $$",
                             "echo something else than records", "exec cat /dev/zero"}) {
    BundleStand stand;
    auto result = stand.Receive(WithProgram(stand, script), Honest());
    ASSERT_TRUE(result.ok()) << script << result.status();
    ASSERT_EQ(result->lies.size(), 1U) << script;
    EXPECT_EQ(result->lies[0].what, unpack::LieKind::kParserBroken) << script;
  }
}

TEST(BundleTest, AParserThatHangsIsEnded) {
  BundleStand stand;
  BundleSpec spec = WithProgram(stand, "exec cat /dev/zero > /dev/null");
  spec.max_idle = std::chrono::milliseconds(200);
  auto result = stand.Receive(std::move(spec), Honest());
  EXPECT_EQ(ReasonOf(result.status()), Reason::k_SYNC_FAILED) << result.status();
}

// As from a service manager that ends the daemon with all it runs.
TEST(BundleTest, ASignalToAllOfTheServiceDoesNotEndTheParser) {
  int in[2];
  int out[2];
  ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  const std::string program = FindUnpack();
  const pid_t parser = fork();
  if (parser == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    execl(program.c_str(), program.c_str(), nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  std::string said(64 << 10, '\0');
  ssize_t got = read(out[0], said.data(), said.size());  // its first words: it is confined
  ASSERT_GT(got, 0);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) EXPECT_EQ(kill(parser, signal), 0);
  std::string asked;
  unpack::Encode(asked, RequestFor(CorpusNames()));
  asked += Honest();
  EXPECT_EQ(write(in[1], asked.data(), asked.size()), static_cast<ssize_t>(asked.size()));
  close(in[1]);
  while (read(out[0], said.data(), said.size()) > 0) {
  }
  close(out[0]);
  int status = 0;
  ASSERT_EQ(waitpid(parser, &status, 0), parser);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(BundleTest, AMissingProgramIsSaid) {
  BundleStand stand;
  BundleSpec spec = stand.SpecFor(CorpusNames());
  spec.program = stand.path() + "/none";
  auto result = stand.Receive(std::move(spec), Honest());
  EXPECT_EQ(ReasonOf(result.status()), Reason::k_SYNC_FAILED) << result.status();
}

TEST(BundleTest, SaysWhichLayersConfinedTheParser) {
  BundleStand stand;
  auto result = stand.Receive(stand.SpecFor(CorpusNames()), Honest());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(DescribeConfinement(result->confinement).starts_with("no new privileges"));
  EXPECT_EQ(
      DescribeConfinement({.layers = unpack::kLandlock | unpack::kSeccomp, .landlock_abi = 3}),
      "landlock 3, seccomp");
  EXPECT_EQ(DescribeConfinement({}), "none");
}

}  // namespace
}  // namespace hermes::sync
