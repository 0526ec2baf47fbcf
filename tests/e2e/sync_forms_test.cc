// The fixed forms of hermesctl for files, with a real daemon behind it: what each does, and what it
// says to wrong input. The sandbox is another directory of this host.

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"

namespace hermes {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr int kExitPartly = 1;
constexpr int kExitHermes = 125;

class SyncFormsTest : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    std::filesystem::create_directory(host());
  }

  std::string host() const { return dir_.path() + "/host"; }
  std::string far() const { return dir_.path() + "/far"; }
  std::string mount() const { return host() + ":" + far(); }

  Ran Hermesctl(std::vector<std::string> words, std::vector<std::string> environment = {}) const {
    words.insert(words.begin(), {BinDir() + "/hermesctl", "--socket", daemon_.socket()});
    return RunProgram({.argv = std::move(words), .env = std::move(environment)});
  }
  // One that must do, with its stdout.
  std::string Out(std::vector<std::string> words) const {
    std::string all;
    for (const std::string& word : words) all += word + " ";
    Ran ran = Hermesctl(std::move(words));
    EXPECT_EQ(ran.status, 0) << all << "\n" << ran.err;
    return ran.out;
  }
  void Create(std::vector<std::string> options) {
    options.insert(options.begin(), {"session", "create", "s", "--backend", "local"});
    Out(std::move(options));
  }

  static void Write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  std::string Host(const std::string& name) const { return ReadWholeFile(host() + "/" + name); }
  std::string Far(const std::string& name) const { return ReadWholeFile(far() + "/" + name); }

  int Mode(const std::string& name) const {
    return static_cast<int>(std::filesystem::status(host() + "/" + name).permissions());
  }

  // "s/x1" of the newest sync.
  std::string NewestSync() const {
    const std::vector<std::string> lines = SplitLines(Out({"syncs", "s"}));
    return lines.size() < 2 ? "" : lines[1].substr(0, lines[1].find(' '));
  }

  TempDir dir_;
  DaemonProcess daemon_;
};

TEST_F(SyncFormsTest, ACommandFindsWhatIsOnTheHost) {
  Write(host() + "/a", "one");
  Create({"--mount", mount()});
  EXPECT_EQ(Out({"exec", "s", "--", "cat " + far() + "/a"}), "one");
  Write(host() + "/a", "two!");
  EXPECT_EQ(Out({"exec", "s", "--no-sync", "--", "cat " + far() + "/a"}), "one");
  EXPECT_EQ(Out({"exec", "s", "--", "cat " + far() + "/a"}), "two!");
}

TEST_F(SyncFormsTest, TheSessionShowsItsMounts) {
  Create({"--mount", mount() + ":push,conflict=host,deletes=never", "--on-sync-error", "run-stale",
          "--sync-interval", "5s"});
  const std::string text = Out({"session", "show", "s"});
  EXPECT_THAT(text, HasSubstr(mount() + ":push,conflict=host,deletes=never"));
  EXPECT_THAT(text, HasSubstr("run-stale"));
  const std::string json = Out({"session", "show", "s", "-o", "json"});
  EXPECT_THAT(json, HasSubstr("\"host_root\": \"" + host() + "\""));
  EXPECT_THAT(json, HasSubstr("\"policy\": \"PUSH\""));
  EXPECT_THAT(json, HasSubstr("\"min_interval\": \"5s\""));
}

TEST_F(SyncFormsTest, SyncSendsAndSaysWhat) {
  Write(host() + "/a", "one");
  Create({"--mount", mount()});
  const Ran sync = Hermesctl({"sync", "s"});
  EXPECT_EQ(sync.status, 0) << sync.err;
  EXPECT_THAT(sync.out, HasSubstr("CREATE"));
  EXPECT_THAT(sync.err, HasSubstr("sent 1 file"));
  EXPECT_EQ(Far("a"), "one");
  const std::string json = Out({"sync", "s", "--force", "-o", "json"});
  EXPECT_THAT(json, StartsWith("{\n"));
  EXPECT_THAT(json, HasSubstr("\"state\": \"DONE\""));
}

TEST_F(SyncFormsTest, SyncBackPlansBringsAndIsTakenBack) {
  Write(host() + "/a", "one");
  Create({"--mount", mount()});
  Out({"exec", "s", "--", "cd " + far() + "; printf changed > a; printf new > b"});
  const Ran plan = Hermesctl({"sync-back", "s", "--dry-run"});
  EXPECT_EQ(plan.status, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("PLANNED"));
  EXPECT_THAT(plan.err, HasSubstr("2 files would change, nothing was touched"));
  EXPECT_EQ(Host("a"), "one");
  const Ran pull = Hermesctl({"sync-back", "s"});
  EXPECT_EQ(pull.status, 0) << pull.err;
  EXPECT_THAT(pull.err, HasSubstr("brought back 2 files"));
  EXPECT_EQ(Host("a"), "changed");
  EXPECT_EQ(Host("b"), "new");
  const std::string sync = NewestSync();
  EXPECT_THAT(pull.err, HasSubstr("hermesctl undo " + sync));
  EXPECT_THAT(Out({"syncs", sync}), HasSubstr("REMOTE_CHANGED"));
  EXPECT_THAT(Out({"syncs", "s", "-o", "json"}), HasSubstr("\"kind\": \"PLAN\""));
  Out({"undo", sync});
  EXPECT_EQ(Host("a"), "one");
  EXPECT_FALSE(std::filesystem::exists(host() + "/b"));
}

TEST_F(SyncFormsTest, HostileNamesOfTheSandboxAreHarmless) {
  Create({"--mount", mount()});
  Out({"exec", "s", "--",
       "mkdir -p " + far() + "; cd " + far() +
           R"sh(; : > "$(printf 'x\033[2J\nforged  line\r\377')")sh"});
  const Ran pull = Hermesctl({"sync-back", "s"});
  EXPECT_EQ(pull.status, kExitPartly) << "no mount can have such a name: " << pull.err;
  EXPECT_EQ(SplitLines(pull.out).size(), 2u) << pull.out;
  EXPECT_THAT(pull.out, HasSubstr(R"(x\x1b[2J\nforged  line\x0d\xff)"));
  EXPECT_THAT(pull.out + pull.err, Not(HasSubstr("\x1b")));
}

TEST_F(SyncFormsTest, DeletionsThatAreHeldBackWaitForApproval) {
  for (int i = 0; i < 30; ++i) Write(host() + "/f" + std::to_string(i), "x");
  Create({"--mount", mount()});
  Out({"exec", "s", "--", "rm " + far() + "/f1?"});
  Out({"sync-back", "s"});
  EXPECT_FALSE(std::filesystem::exists(host() + "/f10")) << "ten are not suspicious";
  Out({"exec", "s", "--", "rm " + far() + "/f*; : > " + far() + "/left"});
  const Ran held = Hermesctl({"sync-back", "s", "-o", "json"});
  EXPECT_THAT(held.out, HasSubstr("\"held\": 20"));
  EXPECT_EQ(held.status, kExitPartly) << held.err;
  EXPECT_TRUE(std::filesystem::exists(host() + "/f1"));
  const Ran refused = Hermesctl({"cleanup", "s"});
  EXPECT_EQ(refused.status, kExitHermes);
  EXPECT_THAT(refused.err, HasSubstr("[PULL_PENDING]"));
  EXPECT_THAT(refused.err, HasSubstr("hermesctl sync-back s --approve-deletes"));
  EXPECT_THAT(refused.err, HasSubstr("hermesctl cleanup s --discard"));
  Out({"sync-back", "s", "--approve-deletes"});
  EXPECT_FALSE(std::filesystem::exists(host() + "/f1"));
  Out({"cleanup", "s"});
}

TEST_F(SyncFormsTest, CleanupBringsBackOrRefusesOrDiscards) {
  Write(host() + "/a", "one");
  Create({"--mount", mount() + ":two-way,conflict=abort"});
  Out({"exec", "s", "--", "cd " + far() + "; printf theirs > a; printf new > b"});
  Write(host() + "/a", "ours");
  const Ran refused = Hermesctl({"cleanup", "s"});
  EXPECT_EQ(refused.status, kExitHermes);
  EXPECT_THAT(refused.err, HasSubstr("[PULL_PENDING]"));
  EXPECT_THAT(refused.err, HasSubstr("hermesctl cleanup s --discard"));
  EXPECT_EQ(Host("b"), "new") << "what could be saved is";
  EXPECT_EQ(Host("a"), "ours");
  EXPECT_THAT(Out({"session", "show", "s"}), HasSubstr("PULL_PENDING"));
  Out({"cleanup", "s", "--discard"});
  EXPECT_EQ(Host("a"), "ours");
}

TEST_F(SyncFormsTest, SecretsOfTheSandboxAreToldByEachWayBack) {
  const std::string why =
      "ODD: in the sandbox: named like a secret (the mount has no "
      "secrets=include)  ";
  Create({"--mount", mount()});
  Out({"exec", "s", "--",
       "mkdir -p " + far() + "; cd " + far() +
           R"sh(; echo key > .env; echo key > "$(printf 'x\033[2J.pem')")sh"});
  EXPECT_THAT(Out({"sync-back", "s", "--dry-run"}), HasSubstr(why + ".env\n"));
  const std::string told = Out({"sync-back", "s"});
  EXPECT_THAT(told, HasSubstr(why + ".env\n"));
  EXPECT_THAT(told, HasSubstr(why + R"(x\x1b[2J.pem)" + "\n"));
  const std::string json = Out({"sync-back", "s", "-o", "json"});
  EXPECT_THAT(json, HasSubstr("\"path\": \".env\""));
  EXPECT_THAT(json, HasSubstr("\"rejected\": 2"));
  EXPECT_THAT(Out({"syncs", NewestSync()}), HasSubstr(why + ".env\n"));
  const Ran cleanup = Hermesctl({"cleanup", "s"});
  EXPECT_EQ(cleanup.status, 0) << cleanup.err;
  EXPECT_THAT(cleanup.err, HasSubstr("brought back 0 files, 2 rejected\n"));
  EXPECT_THAT(cleanup.err, HasSubstr(why + ".env\n"));
  EXPECT_THAT(cleanup.err, HasSubstr(why + R"(x\x1b[2J.pem)" + "\n"));
  EXPECT_THAT(told + json + cleanup.err, Not(HasSubstr("\x1b")));
}

TEST_F(SyncFormsTest, ASecretTravelsBackWhereTheMountIncludesThem) {
  Create({"--mount", mount() + ":two-way,secrets=include"});
  Out({"exec", "s", "--", "mkdir -p " + far() + "; echo key > " + far() + "/.env"});
  EXPECT_THAT(Hermesctl({"cleanup", "s"}).err, HasSubstr("brought back 1 file\n"));
  EXPECT_EQ(Host(".env"), "key\n");
}

TEST_F(SyncFormsTest, CleanupPullsFirst) {
  Create({"--mount", mount()});
  Out({"exec", "s", "--", "printf new > " + far() + "/b"});
  Out({"cleanup", "s"});
  EXPECT_EQ(Host("b"), "new");
}

// The sandbox's home is that of the daemon, so its ~/.hermes is another directory than the host's.
TEST_F(SyncFormsTest, AProfileKeepsSkillsInStepAndSendsCredentialsOnly) {
  for (const char* engine : {"auto", "never"}) {
    SCOPED_TRACE(engine);
    std::filesystem::remove_all(host());
    std::filesystem::create_directories(host() + "/skills/deep");
    std::filesystem::create_directories(host() + "/cache");
    Write(host() + "/skills/s.md", "skill");
    Write(host() + "/skills/deep/run", "#!/bin/sh\n");
    std::filesystem::permissions(host() + "/skills/deep/run", std::filesystem::perms(0755));
    Write(host() + "/skills/goes", "1");
    Write(host() + "/cache/c", "cached");
    Write(host() + "/auth.json", "secret");
    Write(host() + "/config.yaml", "the host's own");
    Create({"--mount-profile", "hermes", "--hermes-home", host(), "--credential", "auth.json",
            "--runner", engine});
    const std::string shown = Out({"session", "show", "s"});
    EXPECT_THAT(shown, HasSubstr("mount skills:"));
    EXPECT_THAT(shown, HasSubstr("mount cache:"));
    EXPECT_THAT(shown, HasSubstr("auth.json:push"));
    EXPECT_THAT(shown, HasSubstr(host() + "/.sync.lock"));

    EXPECT_EQ(Out({"exec", "s", "--",
                   "cd ~/.hermes && find . -type f ! -path '*/.hermesd*' " +
                       std::string("-printf '%P %m\n' | sort")}),
              "auth.json 600\ncache/c 644\nskills/deep/run 755\nskills/goes 644\n"
              "skills/s.md 644\n");
    EXPECT_EQ(Out({"exec", "s", "--", "cd ~/.hermes && cat auth.json skills/s.md cache/c"}),
              "secretskillcached");
    EXPECT_FALSE(std::filesystem::exists(daemon_.dir() + "/.hermes/config.yaml"));

    Out({"exec", "s", "--",
         "cd ~/.hermes && echo edited > skills/s.md && echo new > skills/deep/new && rm "
         "skills/goes "
         "&& printf '#!/bin/sh\\n' > skills/tool && chmod 700 skills/tool && echo 2 > cache/c "
         "&& echo forged > auth.json && chmod 644 auth.json && echo forged > config.yaml"});
    Write(host() + "/skills/mine", "of the host");
    Out({"sync-back", "s"});
    EXPECT_EQ(Host("skills/s.md"), "edited\n");
    EXPECT_EQ(Host("skills/deep/new"), "new\n");
    EXPECT_FALSE(std::filesystem::exists(host() + "/skills/goes"));
    EXPECT_EQ(Mode("skills/tool"), 0755);
    EXPECT_EQ(Mode("skills/s.md"), 0644);
    EXPECT_EQ(Host("cache/c"), "2\n");
    EXPECT_EQ(Host("auth.json"), "secret") << "credentials never come back";
    EXPECT_EQ(Host("config.yaml"), "the host's own");
    EXPECT_EQ(Out({"exec", "s", "--", "cat ~/.hermes/skills/mine"}), "of the host");

    // Renewed on the host, a credential goes over again, and is the account's alone again.
    Write(host() + "/auth.json", "renewed");
    Hermesctl({"sync", "s"});
    const std::string there = Out({"exec", "s", "--no-sync", "--",
                                   "cat ~/.hermes/auth.json; stat -c ' %a' ~/.hermes/auth.json"});
    EXPECT_THAT(there, HasSubstr("forged")) << "what somebody made of it over there is not buried";
    Out({"cleanup", "s", "--discard"});
    std::filesystem::remove_all(daemon_.dir() + "/.hermes");
  }
}

TEST_F(SyncFormsTest, AProfileTakesTheSecretsOfSkillsAlongOnlyWhenItIsTold) {
  std::filesystem::create_directories(host() + "/skills/one");
  std::filesystem::create_directories(host() + "/cache");
  Write(host() + "/skills/one/.env", "key");
  for (const char* profile : {"hermes", "hermes,secrets=include"}) {
    Create({"--mount-profile", profile, "--hermes-home", host()});
    const bool withheld = std::string(profile) == "hermes";
    EXPECT_EQ(Out({"exec", "s", "--", "cat ~/.hermes/skills/one/.env 2>&1 || :"}) == "key",
              !withheld);
    Out({"cleanup", "s"});
  }
}

TEST_F(SyncFormsTest, InfoShowsWhatConfinesTheParserOnceItHasRun) {
  Create({"--mount", mount()});
  EXPECT_THAT(Out({"info"}), HasSubstr("parser confined by:  -\n"));
  Out({"exec", "s", "--", "printf new > " + far() + "/b"});
  Out({"sync-back", "s"});
  EXPECT_THAT(Out({"info"}), ContainsRegex("parser confined by: *no new privileges, not dumpable, "
                                           "limits.*seccomp\n"));
}

struct Wrong {
  std::vector<std::string> words;
  std::string said;
};

class WrongInputTest : public SyncFormsTest {
 protected:
  void ExpectRefusals(const std::vector<Wrong>& rows) {
    for (const Wrong& row : rows) {
      std::string all;
      for (const std::string& word : row.words) all += word + " ";
      const Ran ran = Hermesctl(row.words);
      EXPECT_EQ(ran.status, kExitHermes) << all;
      EXPECT_THAT(ran.err, StartsWith("hermesctl: ")) << all;
      EXPECT_THAT(ran.err, HasSubstr(row.said)) << all;
      EXPECT_EQ(ran.out, "") << all;
    }
  }
  static std::vector<std::string> CreateWith(std::vector<std::string> options) {
    options.insert(options.begin(), {"session", "create", "w"});
    return options;
  }
};

TEST_F(WrongInputTest, MountsThatCannotBeAreRefusedByTheirPlace) {
  const std::string mount = host() + ":" + far();
  ExpectRefusals({
      {CreateWith({"--mount", host()}), "the form is HOST:REMOTE["},
      {CreateWith({"--mount", mount + ":sideways"}), "'sideways' is not understood"},
      {CreateWith({"--mount", host() + ":far"}), "REMOTE must begin with / or ~/"},
      {CreateWith({"--mount", "/:" + far()}), "mounts[0].host_root"},
      {CreateWith({"--mount", dir_.path() + "/no/such:" + far()}), "mounts[0].host_root"},
      {CreateWith({"--mount", host() + "/../x:" + far()}), "mounts[0].host_root"},
      {CreateWith({"--mount", host() + ":/x/../y"}), "mounts[0].remote_root"},
      {CreateWith({"--mount", mount, "--mount", host() + "/in:/other"}), "mounts[1].host_root"},
      {CreateWith({"--mount", mount, "--mount", daemon_.dir() + ":/other"}), "mounts[1].host_root"},
      {CreateWith({"--mount", mount + ":push,conflict=both"}), "mounts[0].conflict"},
      {CreateWith({"--mount-profile", "hermes", "--hermes-home", "/"}), "profile.home"},
      {CreateWith({"--mount-profile", "hermes", "--hermes-home", host(), "--credential", "../x"}),
       "profile.credentials[0]"},
      {CreateWith({"--mount-profile", "mine"}), "--mount-profile 'mine'"},
      {CreateWith({"--mount", mount, "--on-sync-error", "ignore"}), "--on-sync-error 'ignore'"},
      {CreateWith({"--mount", mount, "--sync-interval", "2h"}), "sync.min_interval"},
      {CreateWith({"--mount", mount, "--sync-interval", "5"}), "the unit is missing"},
  });
  EXPECT_THAT(Out({"session", "ls"}), Not(HasSubstr("\nw ")));
}

TEST_F(WrongInputTest, NamesThatAreNotKnownAreRefused) {
  Create({});
  Out({"session", "create", "m", "--mount", mount()});
  const std::string without = "[CAPABILITY_MISSING]";
  ExpectRefusals({
      {{"sync", "nobody"}, "[SESSION_UNKNOWN]"},
      {{"sync-back", "nobody"}, "[SESSION_UNKNOWN]"},
      {{"syncs", "nobody"}, "[SESSION_UNKNOWN]"},
      {{"syncs", "nobody/s1"}, "[SESSION_UNKNOWN]"},
      {{"undo", "nobody/s1"}, "[SESSION_UNKNOWN]"},
      {{"undo", "s/nothing"}, without},
      {{"undo", "m/nothing"}, "[SYNC_UNKNOWN]"},
      {{"syncs", "m/nothing"}, "[SYNC_UNKNOWN]"},
      {{"syncs", "s/nothing"}, "[SYNC_UNKNOWN]"},
      {{"sync", "s"}, without},
      {{"sync-back", "s"}, without},
      {{"sync-back", "s", "--dry-run"}, without},
      {{"undo", "s"}, "SESSION/SYNC"},
      {{"sync", "S"}, "is not a name"},
      {{"sync", "s", "--dry-run"}, "--dry-run"},
      {{"sync-back", "s", "--force"}, "--force"},
      {{"cleanup", "nobody", "--discard"}, "[SESSION_UNKNOWN]"},
  });
}

TEST_F(WrongInputTest, OnlyASyncBackCanBeTakenBack) {
  Write(host() + "/a", "one");
  Create({"--mount", mount()});
  Out({"sync", "s"});
  const Ran ran = Hermesctl({"undo", NewestSync()});
  EXPECT_EQ(ran.status, kExitHermes);
  EXPECT_THAT(ran.err, HasSubstr("[BAD_FIELD]"));
}

TEST_F(SyncFormsTest, TheEnvironmentOfTheCallerForcesSyncs) {
  Write(host() + "/a", "one");
  Create({"--mount", mount(), "--sync-interval", "1h"});
  Out({"exec", "s", "--", "true"});
  Write(host() + "/a", "two!");
  EXPECT_EQ(Out({"exec", "s", "--", "cat " + far() + "/a"}), "one") << "the interval holds it back";
  const Ran forced =
      Hermesctl({"exec", "s", "--", "cat " + far() + "/a"}, {"HERMES_FORCE_FILE_SYNC=1"});
  EXPECT_EQ(forced.out, "two!") << forced.err;
}

}  // namespace
}  // namespace hermes
