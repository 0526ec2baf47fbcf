// What is named like a secret does not travel with a directory, in neither direction, and is told.

#include <filesystem>

#include <gmock/gmock.h>

#include "sync/ignore.h"
#include "sync/withheld.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAreArray;

const std::vector<std::string>& SecretNames() {
  static const auto* const kNames = new std::vector<std::string>{"deep/.ssh/known_hosts",
                                                                 ".gnupg/x",
                                                                 ".aws/credentials",
                                                                 ".docker/config.json",
                                                                 ".env",
                                                                 "app/.env.local",
                                                                 ".npmrc",
                                                                 ".netrc",
                                                                 ".git-credentials",
                                                                 "tls/key.pem",
                                                                 "id_rsa",
                                                                 "id_rsa.pub",
                                                                 "k/id_ed25519",
                                                                 "id_ecdsa_sk",
                                                                 "id_dsa"};
  return *kNames;
}

// What is told of those: one name for all that is below it.
const std::vector<std::string>& ToldNames() {
  static const auto* const kNames = new std::vector<std::string>{
      "deep/.ssh",      ".gnupg",     ".aws",         ".docker",          ".env",
      "app/.env.local", ".npmrc",     ".netrc",       ".git-credentials", "tls/key.pem",
      "id_rsa",         "id_rsa.pub", "k/id_ed25519", "id_ecdsa_sk",      "id_dsa"};
  return *kNames;
}

RelPath Path(std::string_view name) { return *RelPath::Parse(name); }

class SecretsTest : public SyncStand {
 protected:
  Mount Checked(Mount mount = {}) const {
    if (mount.host_root.empty()) mount.host_root = dir_ + "/host";
    if (mount.remote_root.empty()) mount.remote_root = dir_ + "/far";
    const absl::StatusOr<Mount> checked = CheckedMount(std::move(mount));
    EXPECT_TRUE(checked.ok()) << checked.status();
    return checked.value_or(Mount());
  }
  // Of one side: "on the host", "in the sandbox".
  std::vector<std::string> Told(const std::string& where) const {
    const std::string note = where + ": named like a secret (the mount has no secrets=include)";
    std::vector<std::string> names;
    for (const SyncEntry& entry : heard_.entries) {
      if (entry.note != note) continue;
      EXPECT_EQ(entry.why, Why::kOdd);
      EXPECT_EQ(entry.effect, Effect::kNothing);
      names.push_back(entry.path);
    }
    return names;
  }
  std::vector<std::string> ToldHere() const { return Told("on the host"); }
  std::vector<std::string> ToldThere() const { return Told("in the sandbox"); }
};

TEST_F(SecretsTest, NoneIsPushedAndAPushThatWasAskedForTellsThem) {
  for (const std::string& name : SecretNames()) WriteHost(name, "secret");
  const Files open = {{"a", "1"}, {"deep/environment", "2"}, {"id_map.py", "3"}, {"pem", "4"}};
  for (const auto& [name, bytes] : open) WriteHost(name, bytes);
  Open(Checked());
  MustPush({.tell_odd = true});
  EXPECT_EQ(FarFiles(), open);
  EXPECT_THAT(ToldHere(), UnorderedElementsAreArray(ToldNames()));
  fs::remove(Host(".env"));
  fs::remove_all(Host("deep/.ssh"));
  WriteHost("new.pem", "secret");
  MustPush({.tell_odd = true});
  EXPECT_THAT(ToldHere(), Contains("new.pem"));
  EXPECT_THAT(ToldHere(), testing::Not(Contains(testing::AnyOf(".env", "deep/.ssh"))));
  MustPush();
  EXPECT_THAT(heard_.entries, IsEmpty()) << "nobody asked";
}

TEST_F(SecretsTest, NoneIsPulledAndEachPullTellsThem) {
  for (const Policy policy : {Policy::kTwoWay, Policy::kPull}) {
    Empty();
    Mount mount = Checked();
    mount.policy = policy;
    WriteFar("a", "1");
    Open(mount);
    MustPull();
    EXPECT_THAT(ToldThere(), IsEmpty());
    for (const std::string& name : SecretNames()) WriteFar(name, "planted");
    WriteFar("a", "2");
    far().fetched.clear();
    EXPECT_EQ(MustPull({.dry_run = true}).counts.rejected, ToldNames().size());
    EXPECT_THAT(ToldThere(), UnorderedElementsAreArray(ToldNames()));
    const SyncReport report = MustPull();
    EXPECT_THAT(ToldThere(), UnorderedElementsAreArray(ToldNames()));
    EXPECT_EQ(report.counts.rejected, ToldNames().size());
    EXPECT_EQ(report.unsaved, 0u) << "the mount would not have them";
    EXPECT_EQ(HostFiles(), (Files{{"a", "2"}}));
    EXPECT_EQ(far().fetched, (std::vector<std::string>{"a"}));
    MustPull();
    EXPECT_THAT(ToldThere(), UnorderedElementsAreArray(ToldNames())) << "they are still there";
  }
}

TEST_F(SecretsTest, WhatLiesThereAsItLayCostsNoList) {
  Agree({{"a", "1"}}, Checked());
  const auto pull = [this] {
    const int before = far().lists;
    MustPull();
    return far().lists - before;
  };
  EXPECT_EQ(pull(), 0);
  WriteFar("d/.env", "1");
  EXPECT_EQ(pull(), 1);
  EXPECT_EQ(pull(), 0);
  EXPECT_THAT(ToldThere(), ElementsAre("d/.env"));
  WriteHost("b", "1");
  MustPush();
  EXPECT_EQ(pull(), 0) << "what was sent is no news";
  WriteFar("d/.env", "2");
  EXPECT_EQ(pull(), 1);
  EXPECT_EQ(pull(), 0);
  fs::remove(Far("d/.env"));
  EXPECT_EQ(pull(), 1);
  EXPECT_THAT(ToldThere(), IsEmpty());
  EXPECT_EQ(pull(), 0);
  WriteFar(".env", "1");
  MustPull();
  NewDaemon();
  Open(Checked());
  EXPECT_EQ(pull(), 1) << "a daemon's first";
  EXPECT_THAT(ToldThere(), ElementsAre(".env"));
  EXPECT_EQ(pull(), 0);
}

TEST_F(SecretsTest, WhatIsOddBesidesIsASecretAndNothingElse) {
  Mount mount = Checked();
  mount.max_file_bytes = 10;
  Agree({{"a", "1"}, {"b", "1"}, {"c", "1"}}, mount);
  fs::create_symlink("a", Far(".env"));
  WriteFar("big.pem", "longer than ten bytes");
  WriteFar("d/.ssh/id_rsa", "1");
  fs::create_symlink("config", Far("d/.ssh/link"));
  WriteFar(".netrc\n", "1");
  fs::create_symlink("a", Far("link"));
  fs::remove(Far("a"));
  const SyncReport report = MustPull();
  EXPECT_THAT(ToldThere(), ElementsAre(".env", "big.pem", "d/.ssh"));
  EXPECT_EQ(heard_.Of("link").note, "in the sandbox: link");
  EXPECT_EQ(heard_.Of(".netrc\n").note, "in the sandbox: odd name") << "it is another name";
  EXPECT_EQ(report.unsaved, 1u) << "that name, and nothing that is withheld";
  EXPECT_FALSE(fs::exists(Host("a"))) << "deleted there";
}

TEST_F(SecretsTest, WhatHoldsOnlyASecretIsNoFileAnyMore) {
  Agree({{"x", "1"}, {"y", "1"}, {"z", "1"}}, Checked());
  fs::remove(Far("x"));
  WriteFar("x/.env", "1");
  MustPull();
  EXPECT_THAT(ToldThere(), ElementsAre("x/.env"));
  EXPECT_EQ(HostFiles(), (Files{{"y", "1"}, {"z", "1"}}));
}

TEST_F(SecretsTest, TheyAreNoneOfTheFilesThatAMountMayHold) {
  Mount mount = Checked();
  mount.max_files = 3;
  Agree({{"a", "1"}}, mount);
  for (int i = 0; i < 10; ++i) WriteFar(".env/lib/" + std::to_string(i), "1");
  WriteFar("b", "1");
  MustPull();
  EXPECT_THAT(ToldThere(), ElementsAre(".env"));
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "1"}}));
  for (int i = 0; i < 4; ++i) WriteFar(std::to_string(i), "1");
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_SYNC_FAILED) << "these are";
}

TEST_F(SecretsTest, APlaceMayNameAnyNumberOfThem) {
  constexpr size_t kNames = 40'000;
  Agree({{"a", "1"}}, Checked());
  far().hooks.look = [](RemoteLook* look) {
    look->same = false;
    for (size_t i = 0; i < kNames; ++i)
      look->manifest.files[Path(".env\x1b" + std::string(60, 'x') + std::to_string(i))] = {};
    look->manifest.files[Path("a")] = {.digest = DigestOf("1"), .size = 1};
  };
  EXPECT_EQ(MustPull().counts.rejected, kNames);
  EXPECT_EQ(ToldThere().size(), kNames);
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}}));
  far().hooks.look = nullptr;
  MustPull();
  EXPECT_EQ(far().lists, 0) << "so many are not waited for";
}

TEST_F(SecretsTest, TheHostsAreNeitherDeletedNorReplacedByAPull) {
  WriteHost(".env", "mine");
  Agree({{"a", "1"}, {"b", "1"}, {"c", "1"}}, Checked());
  WriteFar(".env", "planted");
  fs::remove(Far("a"));
  MustPull();
  EXPECT_EQ(Slurp(Host(".env")), "mine");
  EXPECT_FALSE(fs::exists(Host("a")));
}

TEST_F(SecretsTest, AMountMaySayThatTheyTravel) {
  Files all = {{"a", "1"}};
  for (const std::string& name : SecretNames()) all[name] = "secret";
  Agree(all, Checked({.secrets = true}));
  WriteFar("app/.env.local", "changed");
  MustPull();
  EXPECT_EQ(HostFiles().at("app/.env.local"), "changed");
  EXPECT_THAT(ToldThere(), IsEmpty());
}

TEST_F(SecretsTest, WhoIgnoresOneAndHasTheOthersTravelIsToldNothing) {
  Agree({{"a", "1"}, {".netrc", "1"}}, Checked({.ignore = {".env"}, .secrets = true}));
  WriteHost(".env", "1");
  WriteFar(".env", "1");
  MustPush({.tell_odd = true});
  MustPull();
  EXPECT_THAT(heard_.entries, IsEmpty());
}

TEST_F(SecretsTest, APullOfWhatIsOnlyPushedTellsNothingOfThem) {
  Mount mount = Checked();
  mount.policy = Policy::kPush;
  Agree({{"a", "1"}}, mount);
  WriteFar(".env", "1");
  MustPull();
  EXPECT_THAT(heard_.entries, IsEmpty());
  EXPECT_EQ(far().lists, 0) << "nobody asked for their names";
}

TEST_F(SecretsTest, AFileThatIsMountedByItselfTravelsWhateverItsName) {
  WriteHost(".env", "1");
  Mount mount = Checked({.host_root = Host(".env"), .remote_root = Far(".env")});
  EXPECT_TRUE(WithholdsSecrets(mount)) << "nobody knows yet that it is a file";
  Open(mount);
  MustPush({.tell_odd = true});
  EXPECT_EQ(FarFiles(), (Files{{".env", "1"}}));
  EXPECT_THAT(ToldHere(), IsEmpty());
  WriteFar(".env", "2");
  WriteFar(".env.other", "2");
  MustPull();
  EXPECT_EQ(Slurp(Host(".env")), "2");
  EXPECT_THAT(ToldThere(), IsEmpty());
}

TEST_F(SecretsTest, AMountIgnoresThemOnce) {
  const Mount once = Checked({.ignore = {".netrc", "build"}});
  EXPECT_TRUE(WithholdsSecrets(once));
  EXPECT_EQ(once.ignore.size(), SecretPatterns().size() + 1);
  EXPECT_EQ(Checked(once), once);
  EXPECT_FALSE(WithholdsSecrets(Checked({.secrets = true})));
  Mount file{.host_root = "/a/.env", .remote_root = "/b/.env"};
  file.kind = MountKind::kFile;
  EXPECT_TRUE(Checked(file).ignore.empty());
  EXPECT_TRUE(IgnoreList::CheckPatterns(SecretPatterns()).ok());
}

TEST(WithheldTest, IsTakenOutOfWhatWasFound) {
  Manifest found;
  for (const char* name : {"a", "a.pem/b", "d/.env", "d/.env/.ssh/x", "d/env", ".hermesd-x/.env"})
    found.files[Path(name)] = {};
  found.oddities = {{".ssh", Oddity::kUnreadable},
                    {"id_rsa\n", Oddity::kName},
                    {"d/.env/s", Oddity::kSpecial},
                    {"fifo", Oddity::kSpecial}};
  const Manifest withheld = TakeWithheld(&found);
  EXPECT_THAT(WithheldNames(withheld), ElementsAre(".ssh", "a.pem", "d/.env", "id_rsa\n"));
  EXPECT_EQ(withheld.files.size(), 3u);
  EXPECT_EQ(withheld.oddities.size(), 3u);
  EXPECT_EQ(found.files,
            (FileMap{{Path("a"), {}}, {Path("d/env"), {}}, {Path(".hermesd-x/.env"), {}}}));
  EXPECT_EQ(found.oddities, (std::map<std::string, Oddity>{{"fifo", Oddity::kSpecial}}));
}

TEST(WithheldTest, IsRememberedUpToALimit) {
  FileMap some;
  const std::string name = ".env" + std::string(100, 'x');
  for (int i = 0; i < 20'000; ++i) some[Path(name + std::to_string(i))] = {};
  EXPECT_EQ(RememberedOf(some), some);
  for (int i = 20'000; i < 25'000; ++i) some[Path(name + std::to_string(i))] = {};
  EXPECT_TRUE(RememberedOf(some).empty());
}

TEST(WithheldTest, CountsInTheDigestOfWhatIsThere) {
  const FileMap files = {{Path("a"), {.digest = DigestOf("1")}}};
  const FileMap withheld = {{Path(".env"), {.digest = DigestOf("2")}}};
  FileMap both = files;
  both.insert(withheld.begin(), withheld.end());
  EXPECT_EQ(DigestWith(files, {}), ManifestDigest(files));
  EXPECT_EQ(DigestWith(files, withheld), ManifestDigest(both));
}

}  // namespace
}  // namespace hermes::sync
