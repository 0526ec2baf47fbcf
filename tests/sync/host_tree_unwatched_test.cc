// Changes that no notice tells of: above a file mount, where followed links lead, and through hard
// links elsewhere.

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "sync/host_tree.h"
#include "sync/ignore.h"
#include "tests/sync/host_tree_stand.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

RelPath Path(std::string_view text) { return *RelPath::Parse(text); }

// Nobody waits until a file just made is old enough for its times to be trusted: it is known.
class HostTreeFileMountTest : public ::testing::Test, protected HostTreeStand {
 protected:
  void OpenToken(const std::string& path) {
    fs::create_directories(fs::path(path).parent_path());
    WriteFile(path, "1");
    struct stat seen;
    ASSERT_EQ(stat(path.c_str(), &seen), 0);
    mount_.host_root = path;
    mount_.remote_root = "/token";
    Open(kMaxWatches, {{"token", {Bytes("1"), KeyOf(seen)}}});
    Now();
    ASSERT_TRUE(tree_->Unchanged());
  }
};

TEST_F(HostTreeFileMountTest, RefusesADirectoryAboveThatMovedOrWasReplacedUntilItIsBack) {
  for (const std::string moved : {"up", "up/per"}) {
    OpenToken(Outside("up/per/token"));
    fs::rename(Outside(moved), Outside("gone"));
    EXPECT_FALSE(tree_->Unchanged()) << moved;
    EXPECT_EQ(ReasonOf(tree_->Refresh(Effort::kChanges)), Reason::k_SYNC_FAILED);
    fs::create_directories(Outside("up/per"));
    WriteFile(Outside("up/per/token"), "2");
    EXPECT_FALSE(tree_->Unchanged()) << moved;
    EXPECT_EQ(ReasonOf(tree_->Refresh(Effort::kChanges)), Reason::k_SYNC_FAILED);
    fs::remove_all(Outside(moved));
    fs::rename(Outside("gone"), Outside(moved));
    EXPECT_EQ(Now().files, (FileMap{{Path("token"), Bytes("1")}}));
    EXPECT_TRUE(tree_->Unchanged());
  }
}

class HostTreeSecretTest : public ::testing::Test, protected HostTreeStand {};

TEST_F(HostTreeSecretTest, ALinkToASecretIsOneWhateverItsOwnName) {
  mount_.ignore = SecretPatterns();
  Write(".env", "k");
  Write("d/.ssh/id", "k");
  Write("plain", "1");
  WriteFile(Outside("id_rsa"), "k");
  fs::create_symlink(".env", At("settings"));
  fs::create_symlink("d/.ssh/id", At("id"));
  fs::create_symlink("plain", At("also"));
  for (const LinkPolicy policy : {LinkPolicy::kInside, LinkPolicy::kFollowHost}) {
    mount_.links = policy;
    if (policy == LinkPolicy::kFollowHost) fs::create_symlink(Outside("id_rsa"), At("far"));
    Open();
    EXPECT_EQ(Now().files, (FileMap{{Path("also"), Bytes("1")}, {Path("plain"), Bytes("1")}}));
    EXPECT_EQ(tree_->manifest().oddities.at("settings"), Oddity::kSecret);
    EXPECT_EQ(tree_->manifest().oddities.at("id"), Oddity::kSecret);
  }
  EXPECT_EQ(tree_->manifest().oddities.at("far"), Oddity::kSecret);
  mount_.ignore.clear();  // as secrets=include does
  Open();
  EXPECT_EQ(Now().files.at(Path("settings")), Bytes("k"));
}

TEST_F(HostTreeFileMountTest, SeesADirectoryAboveReplacedBetweenTwoLooks) {
  OpenToken(Outside("up/token"));
  fs::create_directory(Outside("new"));
  WriteFile(Outside("new/token"), "2");
  ASSERT_EQ(
      renameat2(AT_FDCWD, Outside("up").c_str(), AT_FDCWD, Outside("new").c_str(), RENAME_EXCHANGE),
      0);
  EXPECT_FALSE(tree_->Unchanged());
  EXPECT_EQ(ReasonOf(tree_->Refresh(Effort::kChanges)), Reason::k_SYNC_FAILED);
  Open();  // as the next session does
  EXPECT_EQ(Now().files, (FileMap{{Path("token"), Bytes("2")}}));
}

class HostTreeLinksTest : public ::testing::Test, protected HostTreeStand {
 protected:
  std::optional<Oddity> OddityOf(const std::string& name) {
    const auto found = tree_->manifest().oddities.find(name);
    return found == tree_->manifest().oddities.end() ? std::nullopt : std::optional(found->second);
  }
  void ExpectFile(std::string_view bytes) {
    EXPECT_FALSE(tree_->Unchanged());
    const FileMap& files = Now().files;
    const auto found = files.find(Path("link"));
    ASSERT_NE(found, files.end());
    EXPECT_EQ(found->second, Bytes(bytes));
    EXPECT_EQ(OddityOf("link"), std::nullopt);
  }
  void ExpectOdd(Oddity oddity) {
    EXPECT_FALSE(tree_->Unchanged());
    EXPECT_FALSE(Now().files.contains(Path("link")));
    EXPECT_EQ(OddityOf("link"), oddity);
  }
  void Start(LinkPolicy links, const std::string& text) {
    fs::create_symlink(text, At("link"));
    mount_.links = links;
    Open();
    ExpectOdd(Oddity::kLink);
    ExpectOdd(Oddity::kLink);
  }
  // What comes and goes at `target`, where the link leads.
  void ExpectEveryChangeSeen(const std::string& target) {
    fs::create_directories(fs::path(target).parent_path());
    WriteFile(target, "made later");
    ExpectFile("made later");
    WriteFile(target, "edited");
    ExpectFile("edited");
    fs::rename(target, target + ".away");
    ExpectOdd(Oddity::kLink);
    ExpectOdd(Oddity::kLink);
    fs::rename(target + ".away", target);
    ExpectFile("edited");
    fs::remove(target);
    fs::create_directory(target);
    ExpectOdd(Oddity::kLink);
    fs::remove(target);
    WriteFile(target, "a file again");
    ExpectFile("a file again");
  }
};

TEST_F(HostTreeLinksTest, SeesTargetsComeAndGoInDirectoriesThatAreWatched) {
  fs::create_directory(At("sub"));
  Start(LinkPolicy::kInside, "sub/b");
  ExpectEveryChangeSeen(At("sub/b"));
}

TEST_F(HostTreeLinksTest, SeesTargetsComeAndGoInDirectoriesThatAreNot) {
  mount_.ignore = {"/build"};
  Start(LinkPolicy::kInside, "build/deep/b");
  ExpectEveryChangeSeen(At("build/deep/b"));
}

TEST_F(HostTreeLinksTest, SeesTargetsComeAndGoOutsideTheRoot) {
  Start(LinkPolicy::kFollowHost, Outside("dir/b"));
  ExpectEveryChangeSeen(Outside("dir/b"));
}

TEST_F(HostTreeLinksTest, SeesTargetsComeAndGoBehindAnotherLink) {
  fs::create_symlink("dir", Outside("hop"));
  Start(LinkPolicy::kFollowHost, Outside("hop/b"));
  ExpectEveryChangeSeen(Outside("dir/b"));
}

TEST_F(HostTreeLinksTest, SeesATargetThatWasTooBigShrink) {
  mount_.max_file_bytes = 6;
  Start(LinkPolicy::kFollowHost, Outside("b"));
  WriteFile(Outside("b"), "1234567");
  ExpectOdd(Oddity::kTooBig);
  WriteFile(Outside("b"), "123456");
  ExpectFile("123456");
  WriteFile(Outside("b"), "1234567");
  ExpectOdd(Oddity::kTooBig);
}

TEST_F(HostTreeLinksTest, SeesWhatIsTooBigShrinkThroughAHardLinkElsewhere) {
  mount_.max_file_bytes = 6;
  WriteFile(Outside("b"), "1234567");
  fs::create_hard_link(Outside("b"), At("link"));
  Open();
  ExpectOdd(Oddity::kTooBig);
  EXPECT_TRUE(tree_->Unchanged());
  WriteFile(Outside("b"), "123456");
  ExpectFile("123456");
  WriteFile(Outside("b"), "12345678");
  ExpectOdd(Oddity::kTooBig);
  EXPECT_TRUE(tree_->Unchanged());
}

// Looks on the loop are over for links that are followed; with the last of them they return.
TEST_F(HostTreeLinksTest, ALinkThatIsGoneCostsNothingMore) {
  const std::vector<std::function<void()>> ends = {
      [&] { fs::remove(At("d/link")); },
      [&] { fs::rename(At("d"), Outside("d")); },
      [&] {
        fs::remove(At("d/link"));
        WriteFile(At("d/link"), "a file");
      },
      [&] {
        fs::remove(At("d/link"));
        fs::create_directory(At("d/link"));
      },
      [&] {
        fs::remove_all(At("d"));
        WriteFile(At("d"), "a file");
      },
  };
  mount_.links = LinkPolicy::kInside;
  for (const std::function<void()>& end : ends) {
    fs::remove_all(At("d"));
    fs::create_directory(At("d"));
    fs::create_symlink("nowhere", At("d/link"));
    Open();
    Now();
    EXPECT_FALSE(tree_->Unchanged());
    end();
    EXPECT_EQ(Now().files, Truth());
    EXPECT_TRUE(tree_->manifest().oddities.empty());
    Now();  // the end of watches was noticed too
    EXPECT_TRUE(tree_->Unchanged());
  }
}

TEST_F(HostTreeLinksTest, LinksThatAreNotFollowedCostNothing) {
  fs::create_symlink("nowhere", At("link"));
  Open();
  Now();
  EXPECT_TRUE(tree_->Unchanged());
}

class FollowedLinkPushTest : public SyncStand {};

TEST_F(FollowedLinkPushTest, CommandsGetWhatALinkLeadsToAsSoonAsItIsThere) {
  const std::string target = dir_ + "/elsewhere";
  fs::create_symlink(target, Host("link"));
  WriteHost("a", "1");
  Open({.policy = Policy::kPush, .links = LinkPolicy::kFollowHost});
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}}));
  WriteFile(target, "2");
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}, {"link", "2"}}));
  fs::rename(target, target + ".away");
  EXPECT_EQ(ReasonOf(Push().status()), Reason::k_SYNC_FAILED);
  fs::rename(target + ".away", target);
  MustPush();
}

class HostTreeLinksRandomTest : public ::testing::TestWithParam<LinkPolicy>,
                                protected HostTreeStand {
 protected:
  // With the bytes of what links lead to, by other means than the tree's.
  FileMap Followed() const {
    FileMap files;
    for (const auto& entry : fs::recursive_directory_iterator(At(""))) {
      std::error_code error;
      const std::string real = fs::canonical(entry.path(), error).string();
      if (error || !fs::is_regular_file(real)) continue;
      if (GetParam() == LinkPolicy::kInside && !real.starts_with(At(""))) continue;
      std::ifstream file(real, std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      files.emplace(Path(entry.path().string().substr(At("").size())), Bytes(bytes));
    }
    return files;
  }

  std::string Name() {
    static constexpr std::array<const char*, 7> kNames = {"a",   "b",     "c", "d/a",
                                                          "d/b", "d/e/a", "d"};
    const std::string name = kNames[random_.Below(kNames.size())];
    return random_.Below(3) == 0 ? Outside(name) : At(name);
  }

  std::string Text() {
    static constexpr std::array<const char*, 5> kTexts = {"a", "b", "../a", "d/a", "d"};
    const bool outside = GetParam() == LinkPolicy::kFollowHost && random_.Below(2) == 0;
    const std::string text = kTexts[random_.Below(kTexts.size())];
    return outside ? Outside(text) : text;
  }

  void Change() {
    std::error_code ignored;
    const std::string name = Name();
    switch (random_.Below(5)) {
      case 0:
        fs::create_directories(fs::path(name).parent_path(), ignored);
        WriteFile(name, std::to_string(random_.Below(5)));
        break;
      case 1:
        fs::create_directories(fs::path(name).parent_path(), ignored);
        fs::create_symlink(Text(), name, ignored);
        break;
      case 2:
        fs::remove_all(name, ignored);
        break;
      default:
        fs::rename(name, Name(), ignored);
        break;
    }
  }

  SeededRandom random_{1};
};

TEST_P(HostTreeLinksRandomTest, EveryLookShowsWhatLinksLeadTo) {
  mount_.links = GetParam();
  Open();
  size_t most = 0;
  for (int round = 0; round < 300; ++round) {
    for (uint64_t changes = random_.Below(4); changes > 0; --changes) Change();
    const FileMap truth = Followed();
    if (tree_->Unchanged()) {
      ASSERT_EQ(tree_->manifest().files, truth) << "round " << round;
    }
    ASSERT_EQ(Now().files, truth) << "round " << round;
    most = std::max(most, truth.size() - Truth().size());
  }
  EXPECT_GE(most, 2u) << "hardly a link was followed";
}

INSTANTIATE_TEST_SUITE_P(Policies, HostTreeLinksRandomTest,
                         ::testing::Values(LinkPolicy::kInside, LinkPolicy::kFollowHost),
                         [](const auto& param) {
                           return param.param == LinkPolicy::kInside ? "Inside" : "FollowHost";
                         });

}  // namespace
}  // namespace hermes::sync
