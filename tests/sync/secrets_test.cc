// What is named like a secret does not travel with a directory, in neither direction.

#include <filesystem>

#include <gmock/gmock.h>

#include "sync/ignore.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Field;
using ::testing::UnorderedElementsAre;

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

class SecretsTest : public SyncStand {
 protected:
  Mount Checked(Mount mount = {}) const {
    if (mount.host_root.empty()) mount.host_root = dir_ + "/host";
    if (mount.remote_root.empty()) mount.remote_root = dir_ + "/far";
    const absl::StatusOr<Mount> checked = CheckedMount(std::move(mount));
    EXPECT_TRUE(checked.ok()) << checked.status();
    return checked.value_or(Mount());
  }
  std::vector<std::string> Told() const {
    std::vector<std::string> names;
    for (const SyncEntry& entry : heard_.entries) {
      if (entry.note == "on the host: named like a secret") names.push_back(entry.path);
    }
    return names;
  }
};

TEST_F(SecretsTest, NoneIsPushedAndAPushThatWasAskedForTellsThem) {
  for (const std::string& name : SecretNames()) WriteHost(name, "secret");
  const Files open = {{"a", "1"}, {"deep/environment", "2"}, {"id_map.py", "3"}, {"pem", "4"}};
  for (const auto& [name, bytes] : open) WriteHost(name, bytes);
  Open(Checked());
  MustPush({.tell_odd = true});
  EXPECT_EQ(FarFiles(), open);
  EXPECT_THAT(Told(), UnorderedElementsAre("deep/.ssh", ".gnupg", ".aws", ".docker", ".env",
                                           "app/.env.local", ".npmrc", ".netrc", ".git-credentials",
                                           "tls/key.pem", "id_rsa", "id_rsa.pub", "k/id_ed25519",
                                           "id_ecdsa_sk", "id_dsa"));
  fs::remove(Host(".env"));
  fs::remove_all(Host("deep/.ssh"));
  WriteHost("new.pem", "secret");
  MustPush({.tell_odd = true});
  EXPECT_THAT(Told(), Contains("new.pem"));
  EXPECT_THAT(Told(), testing::Not(Contains(testing::AnyOf(".env", "deep/.ssh"))));
  MustPush();
  EXPECT_THAT(heard_.entries, testing::IsEmpty()) << "nobody asked";
}

TEST_F(SecretsTest, NoneIsPulled) {
  Agree({{"a", "1"}}, Checked());
  for (const std::string& name : SecretNames()) WriteFar(name, "planted");
  WriteFar("a", "2");
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}}));
  EXPECT_EQ(far().fetched, (std::vector<std::string>{"a"}));
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
}

TEST_F(SecretsTest, AFileThatIsMountedByItselfTravelsWhateverItsName) {
  WriteHost(".env", "1");
  Mount mount = Checked({.host_root = Host(".env"), .remote_root = Far(".env")});
  EXPECT_TRUE(WithholdsSecrets(mount)) << "nobody knows yet that it is a file";
  Open(mount);
  MustPush({.tell_odd = true});
  EXPECT_EQ(FarFiles(), (Files{{".env", "1"}}));
  EXPECT_THAT(Told(), testing::IsEmpty());
  WriteFar(".env", "2");
  MustPull();
  EXPECT_EQ(Slurp(Host(".env")), "2");
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

}  // namespace
}  // namespace hermes::sync
