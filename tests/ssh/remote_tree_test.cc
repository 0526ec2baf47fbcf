// Sync's verbs with nothing but a shell on a real SSH server, over both transports.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "backends/engine/remote_tree.h"
#include "daemon/runtime/random.h"
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
  void PushLookFetchAndDelete() {
    Serve();
    contract::TestSession& session = Open("plain");
    const auto tree = MakeShellTree({.clock = world().clock, .random = random_}, session.sandbox);
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
        world().Await(tree->Fetch(root, {apply.changes[1].path, apply.changes[0].path},
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

 private:
  SystemRandom random_;
};

TEST_F(RemoteTree, PushesLooksFetchesAndDeletesOverOpenSsh) { PushLookFetchAndDelete(); }

TEST_F(RemoteTree, PushesLooksFetchesAndDeletesOverLibssh2) {
  UseLibssh2();
  PushLookFetchAndDelete();
}

}  // namespace
}  // namespace hermes
