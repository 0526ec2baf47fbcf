// Far ends that attack a fetch, through the trees of both levels as the daemon runs them: streams
// that never end, that drip, that say nothing, and the whole corpus of hostile archives.

#include <fcntl.h>
#include <signal.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/engine/far_talk.h"
#include "backends/engine/remote_tree.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "daemon/runtime/workers.h"
#include "sync/bundle.h"
#include "sync/real_fs.h"
#include "sync/shell_tree.h"
#include "sync/tar_join.h"
#include "sync/tar_writer.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"
#include "tests/runtime/run.h"
#include "tests/sync/hostile_corpus.h"

namespace hermes {
namespace {

using std::chrono::seconds;
using sync::RelPath;

constexpr uint64_t kMostBytes = 64 << 20;  // read of one script: nobody stops it any more
constexpr int kMostAlarms = 100'000;

struct Piece {
  std::string bytes;  // "@M" is the mark; empty: the end
  Duration after{0};
};
using Script = std::function<Piece(size_t number)>;  // of one stream, from 0

// What all streams of one test do, and did.
struct Far {
  Loop& loop;
  Clock& clock;
  Script script;
  int streams = 0;
  int aborted = 0;
  uint64_t read = 0;
};

class ScriptedStream : public Stream {
 public:
  explicit ScriptedStream(Far* far) : far_(far), woken_(far->loop) { ++far->streams; }

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    if (rest_.empty()) {
      Piece piece = far_->script(number_++);
      co_await Pass(piece.after);
      rest_ = std::move(piece.bytes);
      for (size_t at = 0; (at = rest_.find("@M", at)) != rest_.npos;) rest_.replace(at, 2, Mark());
    }
    if (aborted_) co_return Error(Reason::k_BACKEND_UNREACHABLE, "aborted");
    const size_t bytes = std::min(into.size(), rest_.size());
    rest_.copy(into.data(), bytes);
    rest_.erase(0, bytes);
    far_->read += bytes;
    if (far_->read <= kMostBytes) co_return bytes;
    ADD_FAILURE() << "nobody ends this stream";
    co_return size_t{0};
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override { co_return size_t{0}; }
  Task<absl::Status> Write(std::string_view data) override {
    asked_.append(data);
    co_return absl::OkStatus();
  }
  void CloseStdin() override {}
  void Abort() override {
    far_->aborted += aborted_ ? 0 : 1;
    aborted_ = true;
    woken_.NotifyAll();
  }
  Task<std::optional<End>> WaitEnd() override { co_return std::nullopt; }

 private:
  Task<void> Pass(Duration time) {
    bool over = time == Duration{0};
    const auto alarm = far_->clock.At(far_->clock.Now() + time, [this, &over] {
      over = true;
      woken_.NotifyAll();
    });
    while (!over && !aborted_) co_await woken_.Wait();
  }

  std::string Mark() const {
    std::smatch found;
    EXPECT_TRUE(std::regex_search(asked_, found, std::regex("@([0-9a-f]{16}|[0-9a-f]{8})")));
    return found.str();
  }

  Far* const far_;
  Event woken_;
  std::string asked_;
  std::string rest_;
  size_t number_ = 0;
  bool aborted_ = false;
};

class ScriptedSandbox : public Sandbox {
 public:
  explicit ScriptedSandbox(Far* far) : far_(far) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string, Lane, WishPtr) override {
    co_return std::make_unique<ScriptedStream>(far_);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "there is no runner");
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "there is no runner");
  }
  std::string place_key() const override { return "far"; }
  std::string handle() const override { return ""; }
  Task<absl::Status> Close(bool) override { co_return absl::OkStatus(); }

 private:
  Far* const far_;
};

Task<absl::StatusOr<FilesStream>> OpenScripted(Far* far) {
  co_return FilesStream{std::make_unique<ScriptedStream>(far), ""};
}

std::string Head(char level) { return std::string("@M h ") + level + " 1 -\n"; }

std::string OneFile() {
  return sync::TarHeader({.name = *RelPath::Parse("a"), .size = 1}) + "x" +
         std::string(sync::TarPadding(1));
}

// The parameter is the tool level.
class HostileFar : public testing::TestWithParam<char> {
 protected:
  std::unique_ptr<sync::RemoteTree> MakeTree(Clock& clock) {
    const RemoteTreeDeps deps{.clock = clock, .random = random_};
    if (GetParam() == 'B') return MakeShellTree(deps, std::make_shared<ScriptedSandbox>(&far_));
    return MakeRunnerTree(deps, [this](Lane, WishPtr) { return OpenScripted(&far_); });
  }

  // Ends with the task, however far that is in the clock's time.
  template <typename T>
  T Await(Task<T> task) {
    std::optional<T> result;
    asio::co_spawn(loop_.executor(), std::move(task),
                   [&](std::exception_ptr, T value) { result.emplace(std::move(value)); });
    for (int alarms = 0; !result && alarms < kMostAlarms; ++alarms) clock_.AdvanceToNext();
    EXPECT_TRUE(result) << "it goes on for ever";
    return result ? *std::move(result) : T(absl::UnknownError("it goes on for ever"));
  }

  // Whoever takes stops at so many bytes, as a reader does whose limits are exceeded.
  absl::Status Fetch(const std::vector<std::string>& names, uint64_t most = kMostBytes) {
    std::vector<RelPath> paths;
    for (const std::string& name : names) paths.push_back(*RelPath::Parse(name));
    const auto take = [this, most](std::string_view bytes) -> Task<absl::Status> {
      taken_ += bytes.size();
      if (taken_ > most) co_return Error(Reason::k_SYNC_FAILED, "too much");
      co_return absl::OkStatus();
    };
    const std::unique_ptr<sync::RemoteTree> tree = MakeTree(clock_);
    return Await(tree->Fetch({.path = "~/w", .wish = wish_}, {std::move(paths)}, take));
  }

  Loop loop_;
  FakeClock clock_{loop_};
  SystemRandom random_;
  WishPtr wish_ = std::make_shared<Wish>();
  Far far_{loop_, clock_, nullptr};
  uint64_t taken_ = 0;
};

TEST_P(HostileFar, ZerosWithoutEndReachWhoeverGivesThemUp) {
  far_.script = [](size_t number) {
    if (number == 0) return Piece{Head(GetParam()) + OneFile()};
    return Piece{std::string(60'000, '\0')};
  };
  const absl::Status status = Fetch({"a"}, 2 << 20);
  EXPECT_EQ(ReasonOf(status), Reason::k_SYNC_FAILED) << status;
  EXPECT_LT(far_.read, 4u << 20);
  EXPECT_EQ(far_.aborted, 1);
}

TEST_P(HostileFar, AByteNowAndThenHoldsAFetchForNoLongerThanItsLimit) {
  for (const std::string& drop : {std::string("n"), Head(GetParam()) + std::string(1, '\0')}) {
    far_.script = [&](size_t number) {
      return Piece{number == 0 ? drop : drop.substr(drop.size() - 1), kMaxFarSilence - seconds(1)};
    };
    const SteadyTime begin = clock_.Now();
    const absl::Status status = Fetch({"a"});
    EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << status;
    EXPECT_THAT(status.message(), testing::HasSubstr("too slow"));
    EXPECT_EQ(clock_.Now() - begin, kMaxFarWait);
  }
  EXPECT_EQ(far_.aborted, 2);
}

class HostileShell : public HostileFar {};

TEST_P(HostileShell, ManyPartsOfAFetchShareOneLimit) {
  std::vector<std::string> names;
  for (int i = 0; i < 4'000; ++i) names.push_back(std::string(200, 'n') + std::to_string(i));
  far_.script = [](size_t number) {
    if (number == 0)
      return Piece{Head('B') + OneFile() + std::string(sync::TarEnd()), seconds(100)};
    return Piece{};
  };
  const SteadyTime begin = clock_.Now();
  const absl::Status status = Fetch(names);
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << status;
  EXPECT_EQ(clock_.Now() - begin, kMaxFarWait);
}

TEST_P(HostileFar, ASlowFarEndThatGetsOnIsWaitedFor) {
  constexpr size_t kSteps = 20;  // each in less than its time, all in far more
  far_.script = [](size_t number) {
    if (number == 0)
      return Piece{Head(GetParam()) +
                   sync::TarHeader({.name = *RelPath::Parse("a"), .size = kSteps * kFarStepBytes})};
    if (number <= kSteps) return Piece{std::string(kFarStepBytes / 4, 'x'), seconds(140)};
    return Piece{};
  };
  const absl::Status status = Fetch({"a"});
  EXPECT_THAT(status.message(), testing::HasSubstr("cut short")) << "and not too slow";
  EXPECT_EQ(taken_, 512 + kSteps * kFarStepBytes / 4);
}

TEST_P(HostileFar, SilenceIsGivenUpAtItsLimit) {
  for (const std::string& first :
       {std::string("n"), Head(GetParam()), Head(GetParam()) + OneFile()}) {
    far_.script = [&](size_t number) {
      return number == 0 ? Piece{first} : Piece{"", std::chrono::hours(1000)};
    };
    const SteadyTime begin = clock_.Now();
    const absl::Status status = Fetch({"a"});
    EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << status;
    EXPECT_THAT(status.message(), testing::HasSubstr("silent"));
    EXPECT_EQ(clock_.Now() - begin, kMaxFarSilence);
  }
}

TEST_P(HostileFar, ALookAndAnApplyHaveTheSameLimits) {
  far_.script = [](size_t number) {
    return Piece{number == 0 ? Head(GetParam()) : "t 1\nx", kMaxFarSilence - seconds(1)};
  };
  const std::unique_ptr<sync::RemoteTree> tree = MakeTree(clock_);
  SteadyTime begin = clock_.Now();
  EXPECT_EQ(ReasonOf(Await(tree->Look({.path = "~/w"}, std::nullopt)).status()),
            Reason::k_BACKEND_UNREACHABLE);
  EXPECT_EQ(clock_.Now() - begin, kMaxFarWait);
  begin = clock_.Now();
  EXPECT_EQ(ReasonOf(Await(tree->Apply({.root = {.path = "~/w"}, .epoch = "ab"})).status()),
            Reason::k_BACKEND_UNREACHABLE);
  EXPECT_EQ(clock_.Now() - begin, kMaxFarWait);
}

TEST_P(HostileFar, AWishThatIsWithdrawnEndsADrippingFetch) {
  far_.script = [this](size_t number) {
    if (number == 3) wish_->Withdraw();
    return Piece{number == 0 ? Head(GetParam()) : std::string(1, '\0'), seconds(1)};
  };
  EXPECT_TRUE(absl::IsCancelled(Fetch({"a"})));
  EXPECT_EQ(clock_.Now().time_since_epoch() % seconds(1), Duration{0});
  EXPECT_EQ(far_.aborted, 1);
}

INSTANTIATE_TEST_SUITE_P(Levels, HostileShell, testing::Values('B'));
INSTANTIATE_TEST_SUITE_P(Levels, HostileFar, testing::Values('A', 'B'),
                         [](const auto& info) { return std::string("Level") + info.param; });

// From the scripted stream through a tree into the real hermes-unpack.
class HostileArchive : public testing::TestWithParam<char> {
 protected:
  HostileArchive() {
    signal(SIGPIPE, SIG_IGN);  // as the daemon does
    stage_.reset(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  Task<absl::StatusOr<sync::BundleResult>> Receive(sync::RemoteTree* tree) {
    sync::BundleSpec spec{.program = sync::FindUnpack(),
                          .fs = &fs_,
                          .stage = stage_.get(),
                          .max_total_bytes = sync::kCorpusMaxTotal,
                          .max_members = sync::kCorpusMaxMembers};
    sync::RemoteTree::Wanted wanted;
    for (const std::string& name : sync::CorpusNames()) {
      wanted.names.push_back(*RelPath::Parse(name));
      spec.wanted.push_back({wanted.names.back(), sync::kCorpusMaxFile});
    }
    CO_ASSIGN_OR_RETURN(std::unique_ptr<sync::Bundle> bundle,
                        sync::Bundle::Start(loop_, clock_, workers_, std::move(spec)));
    absl::Status stream = co_await tree->Fetch(
        {.path = "~/w"}, std::move(wanted),
        [to = bundle.get()](std::string_view piece) { return to->Feed(piece); });
    co_return co_await bundle->Finish(std::move(stream));
  }

  TempDir dir_;
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  ThreadWorkers workers_{loop_, 2};
  sync::RealFs fs_;
  Fd stage_;
};

// What the parser says of a stream by itself, but for two: ends are the tree's own, and a map of
// blocks behind a header, which no tool sends unless it is told to, is taken for headers.
sync::Verdict VerdictThroughATree(const sync::HostileCase& hostile) {
  if (hostile.name == "half an end") return sync::Verdict::kClean;
  if (hostile.name == "sparse, old form, map of two blocks") return sync::Verdict::kFailed;
  return hostile.verdict;
}

sync::Verdict Judge(const absl::StatusOr<sync::BundleResult>& result) {
  if (!result.ok()) return sync::Verdict::kFailed;
  if (!result->lies.empty()) return sync::Verdict::kLie;
  return result->oddities.empty() ? sync::Verdict::kClean : sync::Verdict::kOdd;
}

TEST_P(HostileArchive, EveryOneOfTheCorpusGetsItsVerdictThroughATree) {
  for (const sync::HostileCase& hostile : sync::HostileCorpus()) {
    const std::string all = Head(GetParam()) + hostile.bytes;
    Far far{loop_, clock_, [&all](size_t number) {
              return Piece{number * 9'999 < all.size() ? all.substr(number * 9'999, 9'999) : ""};
            }};
    const RemoteTreeDeps deps{.clock = clock_, .random = random_};
    const std::unique_ptr<sync::RemoteTree> tree =
        GetParam() == 'B'
            ? MakeShellTree(deps, std::make_shared<ScriptedSandbox>(&far))
            : MakeRunnerTree(deps, [&far](Lane, WishPtr) { return OpenScripted(&far); });
    const auto result = RunTask(loop_, Receive(tree.get()));
    EXPECT_EQ(Judge(result), VerdictThroughATree(hostile)) << hostile.name << result.status();
    EXPECT_EQ(far.streams, 1) << hostile.name;
    for (const auto& entry : std::filesystem::directory_iterator(dir_.path()))
      std::filesystem::remove(entry.path());
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, HostileArchive, testing::Values('A', 'B'),
                         [](const auto& info) { return std::string("Level") + info.param; });

}  // namespace
}  // namespace hermes
