// Sync's verbs on a real SSH server, over both transports and at both tool levels.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/contract/far_tree.h"
#include "tests/ssh/place_stand.h"

namespace hermes {
namespace {

using testing::Each;

class TextSource : public sync::BlobSource {
 public:
  explicit TextSource(std::vector<std::string> files) : files_(std::move(files)) {}
  Task<Blob> Read(size_t index) override {
    co_return Blob{.bytes = std::exchange(files_[index], "")};
  }

 private:
  std::vector<std::string> files_;
};

struct Taker {
  std::string bytes;
  Task<absl::Status> Take(std::string_view piece) {
    bytes.append(piece);
    co_return absl::OkStatus();
  }
};

class RemoteTree : public PlaceStand {
 protected:
  void PushLookFetchAndDelete(const std::string& engine) {
    Serve();
    contract::TestSession& session = Open(engine);
    const auto tree = session.engine->NewRemoteTree();
    const sync::RemoteRoot root{.path = "~/work/tree"};

    const std::vector<std::string> files = {"one", std::string(300'000, '2'), ""};
    TextSource source(files);
    sync::RemoteApply apply{.root = root, .epoch = "00ff00ff00ff00ff", .source = &source};
    const std::vector<std::string> names = {"a b", "d/e/\xff", "empty"};
    sync::FileMap expected;
    for (size_t i = 0; i < names.size(); ++i) {
      const sync::Content content{sync::DigestOf(files[i]), files[i].size(), i == 1};
      apply.changes.push_back({*sync::RelPath::Parse(names[i]), std::nullopt, content});
      expected.emplace(apply.changes.back().path, content);
    }
    absl::StatusOr<sync::RemoteApplied> applied = world().Await(tree->Apply(apply));
    ASSERT_TRUE(applied.ok()) << applied.status();
    EXPECT_THAT(applied->placed, Each(sync::Placed::kDone));

    absl::StatusOr<sync::RemoteLook> look = world().Await(tree->Look(root, std::nullopt));
    ASSERT_TRUE(look.ok()) << look.status();
    EXPECT_EQ(look->manifest.files, expected);
    EXPECT_EQ(look->epoch, "00ff00ff00ff00ff");
    EXPECT_TRUE(world().Await(tree->Look(root, look->digest))->same);

    Taker taker;
    const absl::Status fetched =
        world().Await(tree->Fetch(root, {{apply.changes[1].path, apply.changes[0].path}},
                                  [&](std::string_view piece) { return taker.Take(piece); }));
    ASSERT_TRUE(fetched.ok()) << fetched;
    std::ofstream(dir().path() + "/tar", std::ios::binary) << taker.bytes;
    ASSERT_EQ(std::system(("tar -xf " + dir().path() + "/tar -C " + dir().path()).c_str()), 0);
    EXPECT_EQ(std::filesystem::file_size(dir().path() + "/d/e/\xff"), 300'000u);
    EXPECT_EQ(std::filesystem::file_size(dir().path() + "/a b"), 3u);

    for (sync::RemoteChange& change : apply.changes)
      change.expected = std::exchange(change.wanted, std::nullopt);
    applied = world().Await(tree->Apply(apply));
    ASSERT_TRUE(applied.ok()) << applied.status();
    EXPECT_THAT(applied->placed, Each(sync::Placed::kDone));
    EXPECT_TRUE(world().Await(tree->Look(root, sync::ManifestDigest({})))->same);
  }

  int Channels() const {
    int channels = 0;
    for (const std::string& line : SplitLines(server().Log()))
      if (line.find("Starting session: command") != std::string::npos) ++channels;
    return channels;
  }
  // The best of a few, for the machine is busy with something else as well.
  Duration BestOf(const std::function<void(int round)>& act) {
    Duration best = Duration::max();
    for (int round = 0; round < kRounds; ++round) {
      const SteadyTime begin = world().clock.Now();
      act(round);
      best = std::min(best, world().clock.Now() - begin);
    }
    return best;
  }
  static constexpr int kRounds = 5;
};

TEST_F(RemoteTree, PushesLooksFetchesAndDeletesOverOpenSsh) { PushLookFetchAndDelete("plain"); }

TEST_F(RemoteTree, PushesLooksFetchesAndDeletesOverLibssh2) {
  UseLibssh2();
  PushLookFetchAndDelete("plain");
}

TEST_F(RemoteTree, TheRunnerPushesLooksFetchesAndDeletes) { PushLookFetchAndDelete("runner"); }

TEST_F(RemoteTree, ASmallApplyCostsARoundTripAndACommandRidesAlong) {
  constexpr std::chrono::milliseconds kRtt(200);
  Serve();
  PutProxy(kRtt);
  contract::TestSession& session = Open("runner");
  contract::FarTree far(world(), session);
  std::string held;
  const auto change = [&](int round) {
    const contract::FarChange made{.name = "f", .expected = held, .wanted = std::to_string(round)};
    held = *made.wanted;
    return std::vector<contract::FarChange>{made};
  };
  EXPECT_EQ(far.Apply(change(-1)), "p");
  const int channels = Channels();
  const Duration apply = BestOf([&](int round) { EXPECT_EQ(far.Apply(change(round)), "p"); });
  const Duration both = BestOf([&](int round) {
    contract::RunPtr run;
    sync::RemoteApply request = far.Request(change(100 + round));
    request.on_follow = [&](std::string run_id) {
      CommandSpec spec;
      spec.script = "cat " + far.root.path + "/f";
      spec.after = std::move(run_id);
      run = world().StartSoon(session, std::move(spec));
    };
    EXPECT_EQ(far.Apply(std::move(request)), "p");
    ASSERT_NE(run, nullptr);
    world().WaitEnd(run);
    EXPECT_EQ(run->out, held);
  });
  for (Duration one : {apply, both}) {
    EXPECT_GE(one, kRtt);
    EXPECT_LT(one, 2 * kRtt);
  }
  EXPECT_EQ(Channels(), channels);
  RecordProperty("apply_us", std::to_string(apply / std::chrono::microseconds(1)));
  RecordProperty("apply_and_command_us", std::to_string(both / std::chrono::microseconds(1)));
}

TEST_F(RemoteTree, ALargePushTakesAConnectionOfItsOwn) {
  Serve();
  contract::TestSession& session = Open("runner");
  contract::FarTree far(world(), session);
  EXPECT_EQ(far.Apply({{.name = "small", .wanted = "1"}}), "p");
  const int logins = Logins();
  sync::RemoteApply request = far.Request({{.name = "large", .wanted = std::string(9 << 20, 'l')}});
  request.on_follow = [](const std::string&) { ADD_FAILURE() << "nothing can follow it"; };
  EXPECT_EQ(far.Apply(std::move(request)), "p");
  EXPECT_EQ(Logins(), logins + 1);
  EXPECT_EQ(far.In("wc -c <large"), "9437184\n");
}

}  // namespace
}  // namespace hermes
