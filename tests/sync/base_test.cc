#include "sync/base.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "sync/crc32c.h"
#include "sync/real_fs.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

RelPath Path(std::string_view text) { return *RelPath::Parse(text); }

Content Version(uint64_t number) {
  return {DigestOf(std::to_string(number)), number, number % 2 == 1};
}

StatKey Key(uint64_t number) {
  return {.dev = 1, .ino = number, .size = 2, .mtime_ns = -3, .ctime_ns = INT64_MAX};
}

class BaseTest : public ::testing::Test {
 protected:
  Base Open(std::string_view key = "place, /host, /remote") {
    absl::StatusOr<Base> base = Base::Open(fs_, directory_, key);
    EXPECT_TRUE(base.ok()) << base.status();
    return *std::move(base);
  }

  std::string FileName() const {
    std::string name;
    for (const auto& entry : fs::directory_iterator(directory_)) name = entry.path().string();
    return name;
  }

  static std::string Read(const std::string& name) {
    std::ifstream file(name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(name, std::ios::binary | std::ios::trunc) << bytes;
  }

  // Some commits; the states after each, the first before any.
  std::vector<FileMap> Fill() {
    Base base = Open();
    EXPECT_TRUE(base.Begin("token").ok());
    std::vector<FileMap> states = {base.files()};
    const std::vector<std::vector<BaseChange>> commits = {
        {{Path("a"), Version(1), Key(1)}, {Path("d/b"), Version(2)}},
        {{Path("a"), Version(4), Key(4)}},
        {{Path("a"), std::nullopt}, {Path("c\n"), Version(3)}}};
    for (const auto& commit : commits) {
      EXPECT_TRUE(base.Commit(commit).ok());
      states.push_back(base.files());
    }
    return states;
  }

  TempDir dir_;
  std::string directory_ = dir_.path() + "/bases";
  RealFs fs_;
};

TEST_F(BaseTest, ChecksumIsCastagnolis) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
}

TEST_F(BaseTest, BeginsEmpty) {
  const Base base = Open();
  EXPECT_EQ(base.epoch(), "");
  EXPECT_TRUE(base.files().empty());
  EXPECT_TRUE(base.Known().empty());
}

TEST_F(BaseTest, RemembersOverRestarts) {
  const std::vector<FileMap> states = Fill();
  EXPECT_EQ(states[2], (FileMap{{Path("a"), Version(4)}, {Path("d/b"), Version(2)}}));
  const Base base = Open();
  EXPECT_EQ(base.epoch(), "token");
  EXPECT_EQ(base.files(), states.back());
  EXPECT_EQ(base.files().at(Path("d/b")).size, 2u);
}

TEST_F(BaseTest, RemembersTheKeysOfHostFiles) {
  {
    Base base = Open();
    ASSERT_TRUE(base.Begin("t").ok());
    ASSERT_TRUE(base.Commit({{Path("a"), Version(1), Key(7)}, {Path("b"), Version(2)}}).ok());
    ASSERT_TRUE(base.Commit({{Path("c"), Version(3), Key(9)}}).ok());
    ASSERT_TRUE(base.Commit({{Path("c"), Version(4)}}).ok());
  }
  const std::map<std::string, KnownFile> known = Open().Known();
  ASSERT_EQ(known.size(), 1u);
  EXPECT_EQ(known.at("a").content, Version(1));
  EXPECT_EQ(known.at("a").key, Key(7));
}

TEST_F(BaseTest, EachKeyHasABaseOfItsOwn) {
  Fill();
  EXPECT_EQ(Open("another place").epoch(), "");
  EXPECT_EQ(Open().epoch(), "token");
}

TEST_F(BaseTest, AFileOfAnotherKeyIsNoBase) {
  Fill();
  const std::string bytes = Read(FileName());
  fs::remove(FileName());
  {
    Open("another place");
  }
  Write(FileName(), bytes);
  EXPECT_EQ(Open("another place").epoch(), "");
}

TEST_F(BaseTest, ANewEpochForgetsEverything) {
  Fill();
  {
    Base base = Open();
    ASSERT_TRUE(base.Begin("other").ok());
    EXPECT_TRUE(base.files().empty());
    EXPECT_TRUE(base.Known().empty());
    ASSERT_TRUE(base.Commit({{Path("z"), Version(1)}}).ok());
  }
  EXPECT_EQ(Open().epoch(), "other");
  EXPECT_EQ(Open().files(), (FileMap{{Path("z"), Version(1)}}));
}

TEST_F(BaseTest, OnlyItsAccountMayReadIt) {
  Fill();
  EXPECT_EQ(fs::status(directory_).permissions(), fs::perms(0700));
  EXPECT_EQ(fs::status(FileName()).permissions(), fs::perms(0600));
}

TEST_F(BaseTest, IsHeldByOneAtATime) {
  Base base = Open();
  EXPECT_EQ(ReasonOf(Base::Open(fs_, directory_, "place, /host, /remote").status()),
            Reason::k_SYNC_HELD);
  ASSERT_TRUE(base.Begin("t").ok());
  EXPECT_EQ(ReasonOf(Base::Open(fs_, directory_, "place, /host, /remote").status()),
            Reason::k_SYNC_HELD);
  EXPECT_TRUE(Base::Open(fs_, directory_, "another").ok());
}

TEST_F(BaseTest, RefusesALinkInItsPlace) {
  Fill();
  const std::string name = FileName();
  fs::rename(name, dir_.path() + "/elsewhere");
  fs::create_symlink(dir_.path() + "/elsewhere", name);
  EXPECT_FALSE(Base::Open(fs_, directory_, "place, /host, /remote").ok());
}

TEST_F(BaseTest, ACutAtAnyByteLeavesAStateThatWas) {
  const std::vector<FileMap> states = Fill();
  const std::string name = FileName();
  const std::string whole = Read(name);
  std::set<size_t> seen;
  for (size_t size = 0; size <= whole.size(); ++size) {
    Write(name, whole.substr(0, size));
    Base base = Open();
    if (base.epoch().empty()) {
      EXPECT_TRUE(base.files().empty());
      continue;
    }
    const auto state = std::find(states.begin(), states.end(), base.files());
    ASSERT_NE(state, states.end()) << "cut at " << size;
    seen.insert(static_cast<size_t>(state - states.begin()));
    // And it goes on from there.
    ASSERT_TRUE(base.Commit({{Path("more"), Version(5)}}).ok());
    const FileMap expected = base.files();
    {
      const Base closed = std::move(base);
    }
    ASSERT_EQ(Open().files(), expected) << "cut at " << size;
  }
  EXPECT_EQ(seen.size(), states.size());
}

TEST_F(BaseTest, DamageToAnyByteIsNoBase) {
  Fill();
  const std::string name = FileName();
  const std::string whole = Read(name);
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      Write(name, damaged);
      const Base base = Open();
      ASSERT_EQ(base.epoch(), "") << "byte " << at;
      ASSERT_TRUE(base.files().empty());
    }
  }
  for (const std::string& tail : {std::string(12, '\0'), std::string(100, '\0'), whole}) {
    Write(name, whole + tail);
    EXPECT_EQ(Open().epoch(), "");
  }
}

TEST_F(BaseTest, BeginsAnewAfterDamage) {
  Fill();
  Write(FileName(), "no base at all, but long enough for a record");
  {
    Base base = Open();
    EXPECT_EQ(base.epoch(), "");
    ASSERT_TRUE(base.Begin("t").ok());
    ASSERT_TRUE(base.Commit({{Path("a"), Version(1)}}).ok());
  }
  EXPECT_EQ(Open().files(), (FileMap{{Path("a"), Version(1)}}));
}

TEST_F(BaseTest, AFailedCommitChangesNothing) {
  const std::vector<FileMap> states = Fill();
  Base base = Open();
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit tight = {.rlim_cur = Read(FileName()).size() + 20, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const absl::Status commit = base.Commit({{Path("x"), Version(1)}});
  const absl::Status begin = base.Begin(std::string(5000, 'e'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_FALSE(commit.ok());
  EXPECT_FALSE(begin.ok());
  EXPECT_EQ(base.epoch(), "token");
  EXPECT_EQ(base.files(), states.back());
  ASSERT_TRUE(base.Commit({{Path("x"), Version(1)}}).ok());
  const FileMap after = base.files();
  {
    const Base closed = std::move(base);
  }
  EXPECT_EQ(Open().files(), after);
}

TEST_F(BaseTest, RemembersWhatWasSentUntilItIsDecided) {
  const std::map<RelPath, MaybeContent> sent = {{Path("a"), Version(7)}, {Path("b"), std::nullopt}};
  {
    Base base = Open();
    ASSERT_TRUE(base.Begin("t").ok());
    ASSERT_TRUE(base.Commit({{Path("b"), Version(1)}}).ok());
    ASSERT_TRUE(base.Announce({{Path("x"), Version(3)}}).ok());
    ASSERT_TRUE(base.Announce({{Path("a"), Version(7)}, {Path("b"), std::nullopt}}).ok());
    EXPECT_EQ(base.sent(), sent);
  }
  {
    Base base = Open();
    EXPECT_EQ(base.sent(), sent);
    EXPECT_EQ(base.files(), (FileMap{{Path("b"), Version(1)}}));
    // Rewritten on the way.
    for (uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(base.Commit({{Path("c"), Version(i)}}).ok());
    EXPECT_EQ(base.sent(), sent);
  }
  {
    Base base = Open();
    EXPECT_EQ(base.sent(), sent);
    ASSERT_TRUE(base.Commit({{Path("a"), Version(7)}}).ok());
    EXPECT_EQ(base.sent().size(), 1u);
    ASSERT_TRUE(base.Announce({}).ok());
  }
  Base base = Open();
  EXPECT_TRUE(base.sent().empty());
  ASSERT_TRUE(base.Announce({{Path("x"), Version(3)}}).ok());
  ASSERT_TRUE(base.Begin("u").ok());
  EXPECT_TRUE(base.sent().empty());
}

TEST_F(BaseTest, ARewriteThatWasKilledLeavesNothingBehind) {
  const std::vector<FileMap> states = Fill();
  const std::string name = FileName();
  Write(name + ".new", "half a rewr");
  Base base = Open();
  EXPECT_EQ(base.files(), states.back());
  ASSERT_TRUE(base.Begin("t").ok());
  EXPECT_FALSE(fs::exists(name + ".new"));
}

TEST_F(BaseTest, StaysSmallOverManyCommitsAndIsNeverWrong) {
  SeededRandom random(1);
  FileMap expected;
  uint64_t longest = 0;
  for (int life = 0; life < 5; ++life) {
    Base base = Open();
    if (life == 0) {
      ASSERT_TRUE(base.Begin("t").ok());
    }
    ASSERT_EQ(base.files(), expected);
    for (int i = 0; i < 60; ++i) {
      std::vector<BaseChange> changes;
      for (int j = 0; j < 40; ++j) {
        const RelPath path = Path("d/" + std::to_string(random.Below(100)));
        const bool forget = random.Below(4) == 0;
        changes.push_back({path, forget ? MaybeContent() : Version(random.Next() % 1000), Key(j)});
        expected.erase(path);
        if (!forget) expected.emplace(path, *changes.back().content);
      }
      ASSERT_TRUE(base.Commit(changes).ok());
      ASSERT_EQ(base.files(), expected);
      longest = std::max(longest, static_cast<uint64_t>(fs::file_size(FileName())));
    }
  }
  EXPECT_LT(longest, 100'000u);  // 300 commits of 4 kB were appended
  EXPECT_EQ(Open().files(), expected);
}

}  // namespace
}  // namespace hermes::sync
