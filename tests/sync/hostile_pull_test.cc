// Every hostile stream and a lying manifest through the whole pull, with things planted around the
// destination: nothing outside is touched, nothing is applied by half, nothing hangs, and honest
// files come where the rules say so.

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <set>

#include "tests/sync/hostile_corpus.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"
#include "tests/sync/unpack_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

// Of streams that are cut or have a byte changed: in the suite a seeded sample.
constexpr size_t kSampledCuts = 400;
constexpr size_t kSampledFlips = 400;
constexpr int kShards = 16;  // of the flips, as all of them take minutes

// A name and what is below it are not both files of one tree, though both are asked for by the
// streams of the corpus: those that need the second one get a tree without the first.
std::vector<std::string> NamesFor(const HostileCase& hostile) {
  std::vector<std::string> names = CorpusNames();
  const bool below = hostile.staged.contains("lnk/x");
  std::erase(names, below ? "lnk" : "lnk/x");
  return names;
}

// What lies there, down to inodes and link counts.
std::string Describe(const std::string& root) {
  std::set<std::string> lines;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root)) {
    struct stat about = {};
    EXPECT_EQ(lstat(entry.path().c_str(), &about), 0);
    std::string line = entry.path().lexically_relative(root).string();
    for (const auto number : {uint64_t{about.st_mode}, uint64_t{about.st_ino},
                              uint64_t{about.st_nlink}, static_cast<uint64_t>(about.st_ctim.tv_sec),
                              static_cast<uint64_t>(about.st_ctim.tv_nsec)})
      line += " " + std::to_string(number);
    if (S_ISREG(about.st_mode)) line += " " + Slurp(entry.path());
    lines.insert(std::move(line));
  }
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

class HostilePullTest : public SyncStand {
 protected:
  HostilePullTest() : SyncStand(RealRoot::Where::kMemory) {
    Spit(dir_ + "/outside/secret", "do not touch");
    Spit(dir_ + "/outside/dir/x", "nor this");
    fs::create_symlink("secret", dir_ + "/outside/link");
    Prepare();
  }

  // A base with one file that the place is going to change, and one that it leaves alone.
  void Prepare() {
    Empty();
    outside_ = Describe(dir_ + "/outside");
    Agree({{"first", "old"}, {"kept", "kept"}}, {.max_files = kCorpusMaxMembers,
                                                 .max_bytes = kCorpusMaxTotal,
                                                 .max_file_bytes = kCorpusMaxFile});
  }

  // The place claims these files, with bytes as they will come where that is known. It sends its
  // stream when it is asked for all of them; it has no more when it is asked for the rest.
  void Claim(const std::vector<std::string>& names, const Files& bytes) {
    far().hooks.stream_names = names.size();
    far().hooks.look = [names, bytes](RemoteLook* look) {
      look->same = false;
      look->manifest.files = {{*RelPath::Parse("kept"), {DigestOf("kept"), 4}},
                              {*RelPath::Parse("first"), {DigestOf("old"), 3}}};
      for (const std::string& name : names) {
        const auto known = bytes.find(name);
        const std::string content = known == bytes.end() ? "changed" : known->second;
        look->manifest.files[*RelPath::Parse(name)] = {DigestOf(content), content.size()};
      }
    };
  }

  // The stream through the whole pull, against what the parser says of it by itself.
  void Run(const HostileCase& hostile, const std::string& bytes) {
    const std::vector<std::string> names = NamesFor(hostile);
    const Unpacked alone = Unpack(RequestFor(names), bytes);
    Claim(names, hostile.staged);
    far().hooks.stream = bytes;
    const Files before = HostFiles();
    const auto report = Pull();
    EXPECT_EQ(Describe(dir_ + "/outside"), outside_);
    const bool taken = alone.verdict == Verdict::kClean || alone.verdict == Verdict::kOdd;
    ASSERT_EQ(report.ok(), taken) << alone.Told() << "; " << report.status();
    Files after = before;
    if (taken) {
      for (const auto& [name, content] : alone.staged) after[name] = content;
    } else {
      EXPECT_EQ(ReasonOf(report.status()), Reason::k_SYNC_FAILED);
      EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
      const std::string message(report.status().message());
      EXPECT_TRUE(std::all_of(message.begin(), message.end(),
                              [](char byte) { return byte >= ' ' && byte <= '~'; }));
    }
    EXPECT_EQ(HostFiles(), after);
    const bool lied = std::any_of(alone.lies.begin(), alone.lies.end(),
                                  [](const auto& lie) { return !unpack::IsLimit(lie.what); });
    EXPECT_EQ(manager().suspect(), lied) << alone.Told();
    manager().set_suspect(false);
    if (taken) Prepare();
  }

  // Things of the host that come into the way while the files are on theirs: for the last time, as
  // no stream has all that it was asked for.
  void PlantDuringFetch() {
    far().hooks.within_fetch = [this, times = 0]() mutable {
      if (++times < kSyncAttempts) return Nothing();
      for (const char* name : {"a", "b", "lnk", "deep", "last"}) fs::remove_all(Host(name));
      EXPECT_EQ(mkfifo(Host("a").c_str(), 0600), 0);
      fs::create_hard_link(dir_ + "/outside/secret", Host("b"));
      fs::create_directory_symlink("../outside", Host("lnk"));
      fs::create_directory_symlink("../outside/dir", Host("deep"));
      Spit(Host("last/mine"), "mine");
      planted_ = Describe(dir_ + "/outside");
      return Nothing();
    };
  }

  std::string outside_;
  std::string planted_;
};

class HostileFlipTest : public HostilePullTest, public ::testing::WithParamInterface<int> {};

TEST_F(HostilePullTest, EveryStreamGetsItsVerdictAndTouchesNothingElse) {
  for (const HostileCase& hostile : HostileCorpus()) {
    SCOPED_TRACE(hostile.name);
    Run(hostile, hostile.bytes);
    ASSERT_FALSE(HasFailure());
  }
}

TEST_F(HostilePullTest, WhatComesIntoTheWayMeanwhileIsNeitherWrittenNorFollowed) {
  for (const HostileCase& hostile : HostileCorpus()) {
    const Unpacked alone = Unpack(RequestFor(NamesFor(hostile)), hostile.bytes);
    if (hostile.staged.empty() || alone.verdict == Verdict::kLie) continue;
    SCOPED_TRACE(hostile.name);
    Claim(NamesFor(hostile), hostile.staged);
    far().hooks.stream = hostile.bytes;
    PlantDuringFetch();
    const SyncReport report = MustPull();
    EXPECT_EQ(Describe(dir_ + "/outside"), planted_);
    EXPECT_TRUE(fs::is_fifo(Host("a")));
    EXPECT_TRUE(fs::is_symlink(Host("lnk")));
    EXPECT_TRUE(fs::is_symlink(Host("deep")));
    EXPECT_EQ(HostFiles(), (Files{{"b", "do not touch"},
                                  {"first", hostile.staged.at("first")},
                                  {"kept", "kept"},
                                  {"last/mine", "mine"}}));
    EXPECT_GT(report.unsaved, 0u);
    ASSERT_FALSE(HasFailure());
    Prepare();
  }
}

TEST_F(HostilePullTest, ALieLeavesTheRestToSalvageAndOneHonestPullClearsIt) {
  size_t salvaged = 0;
  for (const HostileCase& hostile : HostileCorpus()) {
    if (hostile.verdict != Verdict::kLie || !hostile.small) continue;
    SCOPED_TRACE(hostile.name);
    Claim(NamesFor(hostile), hostile.staged);
    far().hooks.stream = hostile.bytes;
    EXPECT_TRUE(Pull({.salvage = true}).ok());
    EXPECT_EQ(Describe(dir_ + "/outside"), outside_);
    for (const auto& [name, content] : HostFiles()) {
      const bool evil = content == "evil" || content == "payload";
      EXPECT_FALSE(evil && name == "first") << name;
      if (name == "first" && content == "first member") ++salvaged;
    }
    far().hooks = {};
    EXPECT_TRUE(Pull({.salvage = true}).ok());
    EXPECT_FALSE(manager().suspect());
    ASSERT_FALSE(HasFailure());
    Prepare();
    if (salvaged > 12 && !Deep()) break;
  }
  EXPECT_GT(salvaged, 10u);
}

TEST_F(HostilePullTest, AStreamThatIsCutAppliesNothing) {
  struct Cut {
    const HostileCase* hostile;
    size_t at;
  };
  std::vector<Cut> cuts;
  for (const HostileCase& hostile : HostileCorpus()) {
    // The big ones repeat one block over and over.
    const size_t most = hostile.small ? SIZE_MAX : 64;
    for (size_t i = 0; i < most && i * 512 < hostile.bytes.size(); ++i)
      cuts.push_back({&hostile, i * 512});
  }
  std::mt19937 random(20261129);
  std::shuffle(cuts.begin(), cuts.end(), random);
  if (!Deep()) cuts.resize(kSampledCuts);
  for (const Cut& cut : cuts) {
    SCOPED_TRACE(cut.hostile->name + " cut at " + std::to_string(cut.at));
    Run(*cut.hostile, cut.hostile->bytes.substr(0, cut.at));
    ASSERT_FALSE(HasFailure());
  }
}

// UnpackCorpusTest changes every byte of every stream, four ways. Here each costs a process, so
// each different header has its turn once.
TEST_P(HostileFlipTest, AChangedHeaderByteBringsNothingElse) {
  std::vector<std::pair<const HostileCase*, size_t>> flips;
  std::set<std::string> headers;
  for (const HostileCase& hostile : HostileCorpus()) {
    if (!hostile.small) continue;
    const size_t blocks = std::min<size_t>(hostile.bytes.size() / 512, 32);
    for (size_t block = 0; block < blocks; ++block) {
      if (hostile.bytes.compare(block * 512 + 257, 5, "ustar") != 0) continue;
      if (!headers.insert(hostile.bytes.substr(block * 512, 512)).second) continue;
      for (size_t i = 0; i < 512; ++i) flips.emplace_back(&hostile, block * 512 + i);
    }
  }
  std::mt19937 random(4711);
  std::shuffle(flips.begin(), flips.end(), random);
  if (!Deep()) flips.resize(kSampledFlips);
  for (auto i = static_cast<size_t>(GetParam()); i < flips.size(); i += kShards) {
    const auto& [hostile, at] = flips[i];
    SCOPED_TRACE(hostile->name + " changed at " + std::to_string(at));
    std::string bytes = hostile->bytes;
    bytes[at] = static_cast<char>(~bytes[at]);
    Run(*hostile, bytes);
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, HostileFlipTest, ::testing::Range(0, kShards));

// Lies of the manifest.

TEST_F(HostilePullTest, OddNamesOfAnyBytesAreToldAndNothingElse) {
  far().hooks.look = [](RemoteLook* look) {
    for (const char* name : {"../x", "/etc/passwd", "", ".", "a/../../b", "\x1b[2J", "\r\n"})
      look->manifest.oddities[name] = Oddity::kName;
  };
  const Files before = HostFiles();
  EXPECT_EQ(MustPull().counts.rejected, 7u);
  EXPECT_EQ(HostFiles(), before);
  EXPECT_EQ(Describe(dir_ + "/outside"), outside_);
}

TEST_F(HostilePullTest, NamesThatNoPullMayWriteAreNotEvenFetched) {
  const std::vector<std::string> names = {".hermesd-stage/x/files/0",
                                          ".hermesd-epoch",
                                          "deep/.hermesd-stage/x",
                                          ".ssh/authorized_keys",
                                          "deep/.ssh/config",
                                          ".git/hooks/post-checkout",
                                          ".git/config",
                                          "deep/.git",
                                          ".sync.lock"};
  Claim(names, {});
  const Files before = FilesBelow(dir_ + "/host");
  MustPull();
  EXPECT_TRUE(far().fetched.empty());
  EXPECT_EQ(FilesBelow(dir_ + "/host"), before);
  EXPECT_FALSE(manager().suspect());
}

TEST_F(HostilePullTest, AMillionFilesAndOddThingsAreTooMany) {
  far().hooks.look = [](RemoteLook* look) {
    look->same = false;
    for (int i = 1'000'000; i < 2'000'000; ++i) {
      const std::string name = std::to_string(i);
      look->manifest.files.emplace_hint(look->manifest.files.end(), *RelPath::Parse(name),
                                        Content{});
      look->manifest.oddities.emplace_hint(look->manifest.oddities.end(), name, Oddity::kLink);
    }
  };
  const Files before = HostFiles();
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_SYNC_FAILED);
  EXPECT_EQ(HostFiles(), before);
  EXPECT_TRUE(far().fetched.empty());
}

TEST_F(HostilePullTest, SizesBeyondAllBoundsAreRefused) {
  for (const uint64_t size : {uint64_t{UINT64_MAX}, uint64_t{1} << 62, uint64_t{kCorpusMaxTotal}}) {
    far().hooks.look = [size](RemoteLook* look) {
      look->same = false;
      for (const char* name : {"x", "y"})
        look->manifest.files[*RelPath::Parse(name)] = {DigestOf(name), size};
    };
    const Files before = HostFiles();
    EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_SYNC_FAILED);
    EXPECT_EQ(HostFiles(), before);
  }
}

TEST_F(HostilePullTest, WhatArrivesCountsWhateverDigestWasClaimed) {
  WriteFar("first", "what really is there");
  far().hooks.look = [](RemoteLook* look) {
    look->same = false;
    look->manifest.files[*RelPath::Parse("first")] = {DigestOf("what was claimed"), 16};
  };
  MustPull();
  EXPECT_EQ(HostFiles().at("first"), "what really is there");
  far().hooks = {};
  far().fetched.clear();
  EXPECT_EQ(MustPull().counts, SyncCounts());
  EXPECT_TRUE(far().fetched.empty());
}

TEST_F(HostilePullTest, AFileBelowAFileIsLeftAloneBoth) {
  Claim({"x", "x/y", "kept/z", "last"}, {{"last", "last"}});
  far().hooks.stream = {};
  WriteFar("last", "last");
  EXPECT_GE(MustPull().counts.rejected, 2u);
  EXPECT_EQ(HostFiles(), (Files{{"first", "old"}, {"kept", "kept"}, {"last", "last"}}));
}

// Whoever answers over there can read our token and say it.
TEST_F(HostilePullTest, AForgedTokenDeletesNothingThatIsNotKept) {
  Files files;
  for (int i = 0; i < 40; ++i) files["f" + std::to_string(i)] = "v" + std::to_string(i);
  Empty();
  Agree(files);
  std::string epoch;
  far().hooks.look = [&](RemoteLook* look) { epoch = look->epoch; };
  MustPull();
  ASSERT_FALSE(epoch.empty());

  // Another far end, empty, under the old token; then one that holds a little.
  fs::remove_all(dir_ + "/far");
  fs::create_directory(dir_ + "/far");
  far().hooks.look = [&](RemoteLook* look) { look->epoch = epoch; };
  EXPECT_EQ(MustPull().counts.held, 40u);
  EXPECT_EQ(HostFiles(), files);
  for (int i = 0; i < 29; ++i) WriteFar("f" + std::to_string(i), "v" + std::to_string(i));
  EXPECT_EQ(MustPull().counts.held, 11u);
  EXPECT_EQ(HostFiles(), files);
  // Few enough to be believed, and all of them come back.
  WriteFar("f29", "v29");
  EXPECT_EQ(MustPull({.id = "believed"}).counts.applied, 10u);
  EXPECT_EQ(HostFiles().size(), 30u);
  ASSERT_TRUE(Revert("believed").ok());
  EXPECT_EQ(HostFiles(), files);
  // Under any other token nothing is deleted at all.
  Empty();
  Agree(files);
  for (int i = 0; i < 5; ++i) fs::remove(Far("f" + std::to_string(i)));
  far().hooks.look = [](RemoteLook* look) { look->epoch = std::string(32, 'f'); };
  MustPull({.approve_deletes = true});
  EXPECT_EQ(HostFiles(), files);
}

}  // namespace
}  // namespace hermes::sync
