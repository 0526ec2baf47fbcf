// Level A's end of the daemon: what it asks, byte by byte, and how it takes answers. The far end is
// played by the test.

#include <deque>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/engine/files_request.h"
#include "backends/engine/frames.h"
#include "backends/engine/remote_tree.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "sync/tar_writer.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

using sync::RelPath;
using ::testing::ElementsAre;

// What arrived over there, and what is said to it.
struct Peer {
  std::string asked;
  bool at_end = false;
  bool aborted = false;
  Lane lane{};
  std::string answer;                 // after the mark, which it learns from the request
  size_t takes = SIZE_MAX;            // bytes; then it is gone
  std::function<void()> silent = {};  // it says nothing, and this happens meanwhile

  frames::Reader Payload(FilesVerb* verb, std::string* mark, std::string* behind = nullptr) const {
    frames::Reader head(asked);
    const uint32_t length = head.U32();
    *verb = static_cast<FilesVerb>(head.U8());
    frames::Reader payload(std::string_view(asked).substr(5, length - 1));
    if (behind != nullptr) *behind = asked.substr(4 + length);
    *mark = payload.Str();
    return payload;
  }
};

class PeerStream : public Stream {
 public:
  explicit PeerStream(Peer* peer) : peer_(peer) {}
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    EXPECT_TRUE(peer_->at_end) << "it waits for an answer before it has ended its question";
    if (peer_->silent) {
      peer_->silent();
      EXPECT_TRUE(peer_->aborted);
      co_return absl::CancelledError("aborted");
    }
    if (!said_) {
      FilesVerb verb{};
      std::string mark;
      peer_->Payload(&verb, &mark);
      said_ = true;
      rest_ = peer_->answer;
      for (size_t at = 0; (at = rest_.find("@M", at)) != rest_.npos;) rest_.replace(at, 2, mark);
    }
    const size_t bytes = std::min({into.size(), rest_.size(), size_t{7}});
    rest_.copy(into.data(), bytes);
    rest_.erase(0, bytes);
    co_return bytes;
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override { co_return 0u; }
  Task<absl::Status> Write(std::string_view data) override {
    peer_->asked.append(data.substr(0, peer_->takes - std::min(peer_->takes, peer_->asked.size())));
    if (peer_->asked.size() >= peer_->takes)
      co_return Error(Reason::k_BACKEND_UNREACHABLE, "broken pipe");
    co_return absl::OkStatus();
  }
  void CloseStdin() override { peer_->at_end = true; }
  void Abort() override { peer_->aborted = true; }
  Task<std::optional<End>> WaitEnd() override { co_return std::nullopt; }

 private:
  Peer* const peer_;
  bool said_ = false;
  std::string rest_;
};

class Source : public sync::BlobSource {
 public:
  Task<Blob> Read(size_t index) override {
    std::deque<Blob>& left = pieces[index];
    if (left.empty()) co_return Blob{.bytes = "", .failed = failed.contains(index)};
    Blob blob = std::move(left.front());
    left.pop_front();
    co_return blob;
  }
  std::map<size_t, std::deque<Blob>> pieces;
  std::set<size_t> failed;
};

class RunnerTree : public testing::Test {
 protected:
  Task<absl::StatusOr<FilesStream>> OpenPeer(Lane lane) {
    peer_.lane = lane;
    co_return FilesStream{std::make_unique<PeerStream>(&peer_), run_id_};
  }

  sync::RemoteRoot root_{.path = "~/w",
                         .only = *RelPath::Parse("one"),
                         .ignore = {"*.o", "a/b"},
                         .max_file_bytes = 77};
  Peer peer_;
  std::string run_id_;  // of the command that the next stream is
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  Source source_;
  std::unique_ptr<sync::RemoteTree> tree_ = MakeRunnerTree(
      {.clock = clock_, .random = random_}, [this](Lane l, WishPtr) { return OpenPeer(l); });
};

void ExpectRoot(frames::Reader& payload, const sync::RemoteRoot& root) {
  EXPECT_EQ(payload.Str(), root.path);
  EXPECT_EQ(payload.Str(), root.only->str());
  EXPECT_EQ(payload.StrList(), root.ignore);
  EXPECT_EQ(payload.U64(), root.max_file_bytes);
}

TEST_F(RunnerTree, AsksForALookAndReadsIt) {
  const sync::Digest digest = sync::DigestOf("-\n");
  peer_.answer = "hello\n@M h A 1 aa\nd " + sync::Hex(digest) + "\n" +
                 std::string("o l\nodd.o\0\0o l\nodd\0\0", 20) + "@M e\n";
  const absl::StatusOr<sync::RemoteLook> look = RunTask(loop_, tree_->Look(root_, digest));
  ASSERT_TRUE(look.ok()) << look.status();
  EXPECT_TRUE(look->same);
  EXPECT_EQ(look->epoch, "aa");
  EXPECT_EQ(look->manifest.oddities.size(), 1u) << "what is ignored is no oddity";
  FilesVerb verb{};
  std::string mark, behind;
  frames::Reader payload = peer_.Payload(&verb, &mark, &behind);
  EXPECT_EQ(verb, FilesVerb::kLook);
  EXPECT_EQ(mark.size(), 9u);
  ExpectRoot(payload, root_);
  EXPECT_EQ(payload.Str(), sync::Hex(digest));
  EXPECT_TRUE(payload.done());
  EXPECT_EQ(behind, "");
}

TEST_F(RunnerTree, SendsEachFileWithItsDigestAndWhetherItIsGood) {
  const sync::Content two{sync::DigestOf("two"), 3, true};
  const sync::Content four{sync::DigestOf("four"), 4, false};
  const sync::Content five{sync::DigestOf("fives"), 5, false};
  sync::RemoteApply apply{.root = root_, .epoch = "abcd", .secret = true, .source = &source_};
  apply.known_epoch = "ef01";
  apply.changes = {{*RelPath::Parse("gone"), two, std::nullopt},
                   {*RelPath::Parse("a/b"), std::nullopt, two, 1'700'000'000'999'999'999},
                   {*RelPath::Parse("short"), four, four},
                   {*RelPath::Parse("changed"), std::nullopt, five}};
  source_.pieces[1] = {{.bytes = "t"}, {.bytes = "wo"}};
  source_.pieces[2] = {{.bytes = "fo"}};
  source_.pieces[3] = {{.bytes = "fives"}};
  source_.failed = {3};
  peer_.answer = "@M h A 1 0123456789abcdef\np 1\nc 0\nf 3\nf 2\n@M e\n";
  const absl::StatusOr<sync::RemoteApplied> applied = RunTask(loop_, tree_->Apply(apply));
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->epoch, "0123456789abcdef");
  EXPECT_THAT(applied->placed, ElementsAre(sync::Placed::kConflict, sync::Placed::kDone,
                                           sync::Placed::kFailed, sync::Placed::kFailed));
  FilesVerb verb{};
  std::string mark, behind;
  frames::Reader payload = peer_.Payload(&verb, &mark, &behind);
  EXPECT_EQ(verb, FilesVerb::kApply);
  ExpectRoot(payload, root_);
  EXPECT_EQ(payload.Str(), "abcd");
  EXPECT_EQ(payload.Str(), "ef01");
  EXPECT_EQ(payload.U8(), 1);
  EXPECT_EQ(payload.U32(), 4u);
  EXPECT_EQ(payload.Str(), "gone");
  EXPECT_EQ(payload.Str(), sync::Hex(two.digest) + "x");
  EXPECT_EQ(payload.U8(), 0);
  EXPECT_EQ(payload.Str(), "a/b");
  EXPECT_EQ(payload.Str(), "");
  EXPECT_EQ(payload.U8(), 1);
  EXPECT_EQ(payload.U64(), 3u);
  EXPECT_EQ(payload.U8(), 1);
  EXPECT_EQ(payload.U64(), 1'700'000'000u);
  EXPECT_EQ(payload.Str(), "short");
  EXPECT_EQ(payload.Str(), sync::Hex(four.digest) + "-");
  EXPECT_EQ(behind, "two" + FileTrailer(true, two.digest) + std::string("fo\0\0", 4) +
                        FileTrailer(false, sync::DigestOf("fo")) + "fives" +
                        FileTrailer(false, five.digest));
  EXPECT_EQ(FileTrailer(true, two.digest).size(), 33u);
}

TEST_F(RunnerTree, BytesOfSeveralFilesGoOutOnceHoweverFewTheyAre) {
  const std::string big(100'000, 'b');
  const sync::Content plain{sync::DigestOf(big), big.size(), false};
  const sync::Content small{sync::DigestOf("s"), 1, false};
  sync::RemoteApply apply{.root = root_, .source = &source_};
  apply.changes = {
      {*RelPath::Parse("a"), std::nullopt, small},
      {*RelPath::Parse("b"), std::nullopt, plain},
      {*RelPath::Parse("c"), std::nullopt, small},
      {*RelPath::Parse("d"), std::nullopt, sync::Content{plain.digest, big.size(), true}}};
  source_.pieces[0] = {{.bytes = "s"}};
  source_.pieces[1] = {{.bytes = big}};
  peer_.answer = "@M h A 1 -\nP\n@M e\n";
  ASSERT_TRUE(RunTask(loop_, tree_->Apply(apply)).ok());
  FilesVerb verb{};
  std::string mark, behind;
  peer_.Payload(&verb, &mark, &behind);
  EXPECT_EQ(behind, "s" + FileTrailer(true, small.digest) + big + FileTrailer(true, plain.digest));
}

TEST_F(RunnerTree, HandsAFetchOverAsItComes) {
  struct Taker {
    std::string bytes;
    Task<absl::Status> Take(std::string_view piece) {
      bytes.append(piece);
      co_return absl::OkStatus();
    }
  } taker;
  const std::string file = sync::TarHeader({.name = *RelPath::Parse("a"), .size = 1}) + "x" +
                           std::string(sync::TarPadding(1));
  peer_.answer = "@M h A 1 -\n" + file + std::string(sync::TarEnd());
  const std::vector<RelPath> names = {*RelPath::Parse("a"), *RelPath::Parse("b/c")};
  ASSERT_TRUE(RunTask(loop_, tree_->Fetch(root_, {names}, [&](std::string_view piece) {
                return taker.Take(piece);
              })).ok());
  EXPECT_EQ(taker.bytes, file + std::string(sync::TarEnd()));
  FilesVerb verb{};
  std::string mark;
  frames::Reader payload = peer_.Payload(&verb, &mark);
  EXPECT_EQ(verb, FilesVerb::kFetch);
  ExpectRoot(payload, root_);
  EXPECT_THAT(payload.StrList(), ElementsAre("a", "b/c"));
  EXPECT_TRUE(payload.done());
  peer_ = {};
  peer_.answer = "@M h A 1 -\n" + file;
  EXPECT_EQ(ReasonOf(RunTask(
                loop_, tree_->Fetch(root_, {names},
                                    [&](std::string_view piece) { return taker.Take(piece); }))),
            Reason::k_BACKEND_UNREACHABLE);
}

TEST_F(RunnerTree, WhatTheFarEndSaysIsWorthMoreThanABrokenPipe) {
  sync::RemoteApply apply{.root = root_, .epoch = "ab", .source = &source_};
  const std::string bytes(1 << 20, 'x');
  apply.changes = {
      {*RelPath::Parse("a"), std::nullopt, sync::Content{sync::DigestOf(bytes), bytes.size()}}};
  source_.pieces[0] = {{.bytes = bytes}};
  peer_.takes = 100'000;
  peer_.answer = "@M h A 1 -\n@M x nospace write\n";
  EXPECT_EQ(ReasonOf(RunTask(loop_, tree_->Apply(apply)).status()), Reason::k_DISK_FULL);
  source_.pieces[0] = {{.bytes = bytes}};
  peer_ = {};
  peer_.takes = 100'000;
  peer_.answer = "@M h A 1 -\n";
  EXPECT_EQ(ReasonOf(RunTask(loop_, tree_->Apply(apply)).status()), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_TRUE(peer_.aborted) << "a far end that nobody listens to is left alone";
}

TEST_F(RunnerTree, AWishThatIsWithdrawnEndsTheTalkWithASilentFarEnd) {
  root_.wish = std::make_shared<Wish>();
  peer_.silent = [this] { root_.wish->Withdraw(); };
  EXPECT_TRUE(absl::IsCancelled(RunTask(loop_, tree_->Look(root_, std::nullopt)).status()));
  peer_ = {};
  EXPECT_TRUE(absl::IsCancelled(RunTask(loop_, tree_->Look(root_, std::nullopt)).status()));
  EXPECT_TRUE(peer_.aborted) << "nobody waited from the beginning";
}

TEST_F(RunnerTree, TellsWhatACommandMayFollowBeforeItSaysMore) {
  std::vector<std::string> told;
  sync::RemoteApply apply{.root = root_, .on_follow = [&](std::string run_id) {
                            EXPECT_EQ(peer_.asked, "");
                            told.push_back(std::move(run_id));
                          }};
  peer_.answer = "@M h A 1 -\nP\n@M e\n";
  EXPECT_TRUE(RunTask(loop_, tree_->Apply(apply)).ok());
  EXPECT_THAT(told, ElementsAre()) << "nothing can follow a stream of its own";
  peer_ = {};
  peer_.answer = "@M h A 1 -\nP\n@M e\n";
  run_id_ = "run-1";
  EXPECT_TRUE(RunTask(loop_, tree_->Apply(apply)).ok());
  EXPECT_THAT(told, ElementsAre("run-1"));
  EXPECT_FALSE(peer_.aborted);
}

TEST_F(RunnerTree, LargePullsKeepOutOfTheWayOfCommands) {
  const auto lane_of = [this](size_t files, uint64_t bytes) {
    peer_ = {};
    peer_.answer = "@M h A 1 -\n" + std::string(sync::TarEnd());
    sync::RemoteTree::Wanted wanted{.bytes = bytes};
    for (size_t i = 0; i < files; ++i) wanted.names.push_back(*RelPath::Parse(std::to_string(i)));
    const auto drop = [](std::string_view) -> Task<absl::Status> { co_return absl::OkStatus(); };
    EXPECT_TRUE(RunTask(loop_, tree_->Fetch(root_, std::move(wanted), drop)).ok());
    return peer_.lane;
  };
  EXPECT_EQ(lane_of(1, 7 << 20), Lane::kCommand);
  EXPECT_EQ(lane_of(1, 9 << 20), Lane::kBulk);
  EXPECT_EQ(lane_of(1, UINT64_MAX), Lane::kBulk) << "whatever is told";
  EXPECT_EQ(lane_of(1'000, 3 << 20), Lane::kCommand);
  EXPECT_EQ(lane_of(10'000, 1), Lane::kBulk) << "each file has a header";
  EXPECT_EQ(lane_of(100, 0), Lane::kCommand) << "nobody knows how much that is";
  EXPECT_EQ(lane_of(101, 0), Lane::kBulk);
}

TEST_F(RunnerTree, LargePushesKeepOutOfTheWayOfCommands) {
  sync::RemoteApply apply{.root = root_, .epoch = "ab", .source = &source_};
  const std::string bytes(9 << 20, 'x');
  apply.changes = {
      {*RelPath::Parse("a"), std::nullopt, sync::Content{sync::DigestOf(bytes), bytes.size()}}};
  source_.pieces[0] = {{.bytes = bytes}};
  peer_.answer = "@M h A 1 -\nP\n@M e\n";
  EXPECT_TRUE(RunTask(loop_, tree_->Apply(apply)).ok());
  EXPECT_EQ(peer_.lane, Lane::kBulk);
  peer_ = {};
  peer_.answer = "@M h A 1 -\nP\n@M e\n";
  apply.changes[0].wanted = std::nullopt;
  EXPECT_TRUE(RunTask(loop_, tree_->Apply(apply)).ok());
  EXPECT_EQ(peer_.lane, Lane::kCommand);
}

}  // namespace
}  // namespace hermes
