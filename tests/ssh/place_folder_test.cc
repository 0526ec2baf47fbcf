// Where hermes-runner is put on a far host, what it leaves there, and how often it is sent.

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "backends/runner/blob.h"
#include "daemon/runtime/status.h"
#include "tests/ssh/place_stand.h"

namespace hermes {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class PlaceFolder : public PlaceStand {
 protected:
  void SetUp() override {
    PlaceStand::SetUp();
    if (!IsSkipped() && RunProgram({.argv = {"unshare", "--mount", "true"}}).status != 0) {
      GTEST_SKIP() << "mount namespaces are refused here";
    }
  }

  std::string Ours(const std::string& folder) const {
    return folder + "/hermesd-" + std::to_string(account().uid());
  }
  std::string HomeFolder() const { return account().home() + "/.cache/hermesd"; }
  std::string Owner() const { return "uid=" + std::to_string(account().uid()); }

  // Mounts that only the server and its sessions see.
  std::string Tmpfs(const std::string& where, const std::string& how) const {
    return "mount -t tmpfs -o " + how + " tmpfs " + where + "\n";
  }
  std::string HomeTmpfs(const std::string& how) const {
    return Tmpfs(account().home(),
                 how + ",mode=700," + Owner() + ",gid=" + std::to_string(account().gid()));
  }
  static std::string Again(const std::string& where, const std::string& how) {
    return "mount --bind " + where + " " + where + "\nmount -o remount,bind," + how + " " + where +
           "\n";
  }
  void ServeWith(const std::string& mounts) {
    OpenSshOptions options;
    options.in_namespace = mounts;
    Serve({}, options);
  }

  // All that is there is below `folder`, is the account's, and nobody else can enter.
  void ExpectOnlyBelow(const std::string& folder, const std::vector<std::string>& before) {
    for (const std::string& line : Files()) {
      if (std::find(before.begin(), before.end(), line) != before.end()) continue;
      EXPECT_THAT(line, StartsWith(folder));
      if (line.ends_with(" d")) EXPECT_THAT(line, HasSubstr(" 700 ")) << line;
    }
    EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(folder + "/bin/")));
  }

  // The account's program files, as stat tells them: inode and size.
  std::string Program() const {
    return Inside({"find", HomeFolder() + "/bin", "-type", "f", "-printf", "%i %s\\n"}).out;
  }
};

TEST_F(PlaceFolder, TheHomeIsTakenAndNothingElseTouched) {
  MakeAccount();
  ServeWith("true");
  const std::vector<std::string> before = Files();
  ExpectEcho(Open("runner"));
  for (const std::string& line : Files()) {
    if (std::find(before.begin(), before.end(), line) != before.end()) continue;
    EXPECT_THAT(line, StartsWith(account().home() + "/.cache"));
    if (line.ends_with(" d")) EXPECT_THAT(line, HasSubstr(" 700 ")) << line;
  }
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(HomeFolder() + "/bin/")));
}

TEST_F(PlaceFolder, PlainLeavesNothingAtAll) {
  MakeAccount();
  ServeWith("true");
  const std::vector<std::string> before = Files();
  ExpectEcho(Open("plain"));
  EndWorld();
  EXPECT_EQ(Files(), before);
}

TEST_F(PlaceFolder, AHomeWhereNothingMayRunIsPassedOver) {
  MakeAccount();
  ServeWith(HomeTmpfs("noexec") + Tmpfs("/var/tmp", "mode=1777"));
  ExpectEcho(Open("runner"));
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(Ours("/var/tmp") + "/bin/")));
  for (const std::string& line : Files()) {
    if (line.ends_with(" d")) EXPECT_THAT(line, HasSubstr(" 700 ")) << line;
    if (line.ends_with(" f")) EXPECT_THAT(line, StartsWith(Ours("/var/tmp")));
  }
}

TEST_F(PlaceFolder, AReadOnlyHomeIsPassedOver) {
  MakeAccount();
  ServeWith(Again(account().home(), "ro") + Tmpfs("/var/tmp", "mode=1777"));
  const std::vector<std::string> before = Files();
  ExpectEcho(Open("runner"));
  ExpectOnlyBelow(Ours("/var/tmp"), before);
  ExpectEcho(Open("plain"));
}

TEST_F(PlaceFolder, AHostWhereNothingMayRunIsSaid) {
  MakeAccount();
  ServeWith(Again("/tmp", "noexec") + Tmpfs("/var/tmp", "noexec,mode=1777") +
            Tmpfs("/dev/shm", "noexec,mode=1777") + HomeTmpfs("noexec"));
  const std::vector<std::string> before = Files();
  const absl::Status opened = TryOpen("runner");
  EXPECT_EQ(ReasonOf(opened), Reason::k_CAPABILITY_MISSING) << opened;
  EXPECT_THAT(std::string(opened.message()), HasSubstr("no directory where programs may run"));
  EXPECT_THAT(MetadataOf(opened)["next"],
              AllOf(HasSubstr("not mounted noexec"), HasSubstr("--runner never")));
  EXPECT_EQ(Files(), before);
  ExpectEcho(Open("plain"));
}

// What is found where the next folder should be, and who made it.
struct Hostile {
  const char* name;
  const char* make;  // $1: the folder, $2: the account
};
class PlaceHostileFolder : public PlaceFolder, public testing::WithParamInterface<Hostile> {};

TEST_P(PlaceHostileFolder, IsNotUsed) {
  MakeAccount();
  ServeWith(HomeTmpfs("noexec") + Tmpfs("/var/tmp", "mode=1777") + "set -- \"$@\"; ( set -- " +
            Ours("/var/tmp") + " " + account().name() + "\n" + GetParam().make + " )\n");
  const std::string look = "find /var/tmp -mindepth 1 -printf '%p %U %m %y %l\\n' | sort";
  const std::string before = Inside({"sh", "-c", look}).out;
  ASSERT_FALSE(before.empty());
  ExpectEcho(Open("runner"));
  EXPECT_EQ(Inside({"sh", "-c", look}).out, before);
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(Ours("/tmp") + "/bin/")));
}

INSTANTIATE_TEST_SUITE_P(
    Folders, PlaceHostileFolder,
    testing::Values(
        Hostile{"Link", "mkdir -m 700 /var/tmp/own; chown $2: /var/tmp/own; ln -s own $1"},
        Hostile{"OfOthers", "mkdir -m 777 $1; mkdir -m 777 $1/bin"},
        Hostile{"OpenToAll", "mkdir -m 777 $1; chmod 777 $1; chown $2: $1"},
        Hostile{"OpenBin", "mkdir -m 700 $1; mkdir $1/bin; chmod 777 $1/bin; chown -R $2: $1"},
        Hostile{"File", "echo x >$1; chown $2: $1"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(PlaceFolder, TheProgramIsSentOnce) {
  MakeAccount();
  ServeWith("true");
  DelayProxy& proxy = PutProxy();
  const size_t size = RunnerBinary("x86_64").size();
  ExpectEcho(Open("runner"));
  EXPECT_GT(proxy.upstream_bytes(), size);
  const std::string first = Program();
  EXPECT_THAT(first, HasSubstr(" " + std::to_string(size) + "\n"));
  EndWorld();
  const uint64_t before = proxy.upstream_bytes();
  ExpectEcho(Open("runner"));
  EXPECT_LT(proxy.upstream_bytes() - before, size / 2);
  EXPECT_EQ(Program(), first);
}

// Whoever puts another one there removes those that nobody has used for a month.
TEST_F(PlaceFolder, AProgramIsAsOldAsItsLastUse) {
  MakeAccount();
  ServeWith("true");
  ExpectEcho(Open("runner"));
  EndWorld();
  const std::string path = RunnerPaths().at(0);
  ASSERT_EQ(Inside({"touch", "-d", "40 days ago", path}).status, 0);
  ExpectEcho(Open("runner"));
  EXPECT_EQ(Inside({"find", path, "-mtime", "+1"}).out, "");
}

TEST_F(PlaceFolder, ADamagedProgramIsSentAgain) {
  MakeAccount();
  ServeWith("true");
  ExpectEcho(Open("runner"));
  const std::string path = RunnerPaths().at(0);
  EndWorld();
  account().KillProcesses();
  ASSERT_EQ(::truncate(path.c_str(), 1000), 0);
  ExpectEcho(Open("runner"));
  EXPECT_EQ(std::filesystem::file_size(path), RunnerBinary("x86_64").size());
}

// Of the right size: only its digest tells.
TEST_F(PlaceFolder, AProgramWithOneWrongByteIsSentAgain) {
  MakeAccount();
  ServeWith("true");
  ExpectEcho(Open("runner"));
  const std::string path = RunnerPaths().at(0);
  EndWorld();
  account().KillProcesses();
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(RunnerBinary("x86_64").size() / 2));
    const char was = static_cast<char>(file.peek());
    file.put(static_cast<char>(was ^ 1));
  }
  ExpectEcho(Open("runner"));
  EXPECT_EQ(ReadWholeFile(path),
            std::string(RunnerBinary("x86_64").data(), RunnerBinary("x86_64").size()));
}

TEST_F(PlaceFolder, AFullHomeIsPassedOver) {
  MakeAccount();
  ServeWith(HomeTmpfs("size=40k") + Tmpfs("/var/tmp", "mode=1777"));
  ExpectEcho(Open("runner"));
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(Ours("/var/tmp") + "/bin/")));
}

// With the program in it from better days.
TEST_F(PlaceFolder, AHomeThatHasBecomeFullIsPassedOver) {
  MakeAccount();
  ServeWith(HomeTmpfs("size=1m") + Tmpfs("/var/tmp", "mode=1777"));
  ExpectEcho(Open("runner"));
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(HomeFolder() + "/bin/")));
  EndWorld();
  account().KillProcesses();
  Inside({"sh", "-c", "cat /dev/zero >" + account().home() + "/fill"});
  ExpectEcho(Open("runner"));
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(Ours("/var/tmp") + "/bin/")));
}

// Its commands are there, and nowhere else.
TEST_F(PlaceFolder, ARunnerThatLivesIsFoundInAFullHome) {
  MakeAccount();
  ServeWith(HomeTmpfs("size=1m") + Tmpfs("/var/tmp", "mode=1777"));
  contract::TestSession& session = Open("runner");
  const contract::RunPtr run = world().Start(
      session, std::string("echo up; until [ -e ~/go ]; do sleep 0.05; done; exit 7"));
  ASSERT_TRUE(world().Until([&] { return run->out == "up\n"; }));
  Inside({"sh", "-c", "cat /dev/zero >" + account().home() + "/fill"});
  server().KillSessions();
  const int logins = Logins();
  while (Logins() == logins)
    (void)world().Until([] { return false; }, std::chrono::milliseconds(50));
  ExpectEcho(session);
  Inside({"sh", "-c", "rm " + account().home() + "/fill; touch " + account().home() + "/go"});
  world().WaitEnd(run, kLongPatience);
  EXPECT_EQ(run->outcome->state, CommandState::kExited) << run->Told();
  EXPECT_EQ(run->outcome->value, 7);
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(HomeFolder() + "/bin/")));
}

TEST_F(PlaceFolder, AHostWithoutRoomIsSaid) {
  MakeAccount();
  ServeWith(Tmpfs("/var/tmp", "size=40k,mode=1777") + Tmpfs("/dev/shm", "size=40k,mode=1777") +
            Again("/tmp", "noexec") + HomeTmpfs("size=40k"));
  const std::vector<std::string> before = Files();
  const absl::Status opened = TryOpen("runner");
  EXPECT_EQ(ReasonOf(opened), Reason::k_CAPABILITY_MISSING) << opened;
  EXPECT_THAT(std::string(opened.message()), HasSubstr("are given room"));
  EXPECT_THAT(MetadataOf(opened)["next"],
              AllOf(HasSubstr("Give it room"), HasSubstr("--runner never")));
  EXPECT_EQ(Files(), before);
  ExpectEcho(Open("plain"));
}

class PlaceTrace : public PlaceFolder {
 protected:
  void Close(contract::TestSession& session) {
    ASSERT_TRUE(world().Await(session.engine->Close(Duration(0))).ok());
    const absl::Status left = world().Await(session.sandbox->Close(true));
    EXPECT_TRUE(left.ok()) << left;
    session.engine.reset();
  }
  bool RunnerIsGone() {
    return Eventually([this] { return RunnerPaths().empty(); });
  }
};

TEST_F(PlaceTrace, TheLastCleanupLeavesTheHomeAsItWas) {
  MakeAccount();
  ServeWith("true");
  const std::vector<std::string> before = Files();
  for (const char* engine : {"runner", "plain", "runner"}) {
    SCOPED_TRACE(engine);
    contract::TestSession& session = Open(engine);
    ExpectEcho(session);
    Close(session);
    EXPECT_TRUE(RunnerIsGone());
    EXPECT_EQ(Files(), before);
  }
}

TEST_F(PlaceTrace, AFolderOfTheirsStaysEvenIfItIsEmpty) {
  MakeAccount();
  ServeWith("true");
  Inside({"install", "-d", "-m", "755", "-o", account().name(), account().home() + "/.cache"});
  const std::vector<std::string> before = Files();
  contract::TestSession& session = Open("runner");
  ExpectEcho(session);
  Close(session);
  EXPECT_EQ(Files(), before);
}

TEST_F(PlaceTrace, TheRunnerStaysForAnotherSession) {
  MakeAccount();
  ServeWith("true");
  const std::vector<std::string> before = Files();
  contract::TestSession& one = Open("runner");
  contract::TestSession& two = Open("runner");
  Close(one);
  ExpectEcho(two);
  EXPECT_THAT(RunnerPaths(), ElementsAre(StartsWith(HomeFolder() + "/bin/")));
  Close(two);
  EXPECT_TRUE(RunnerIsGone());
  EXPECT_EQ(Files(), before);
}

// A session of before the daemon's restart that nobody has used since.
TEST_F(PlaceTrace, TheRunnerStaysForASessionThatOnlyTheDiskKnows) {
  MakeAccount();
  ServeWith("true");
  ExpectEcho(Open("runner"));
  const std::string state = RunnerPaths().at(0);
  const std::string folder = HomeFolder();
  Inside({"sh", "-c", "for d in " + folder + "/*/state; do cp -p $d/s-* $d/s-asleep; done"});
  contract::TestSession& session = *world().sessions.front();
  Close(session);
  EXPECT_THAT(Inside({"sh", "-c", "ls " + folder + "/*/state"}).out, HasSubstr("s-asleep"));
  EXPECT_THAT(RunnerPaths(), ElementsAre(state));
}

TEST_F(PlaceTrace, AnotherDaemonsPartStays) {
  MakeAccount();
  ServeWith("true");
  contract::TestSession& session = Open("runner");
  ExpectEcho(session);
  const std::string other = HomeFolder() + "/other-0000";
  Inside({"install", "-d", "-m", "700", "-o", account().name(), other});
  Close(session);
  EXPECT_TRUE(RunnerIsGone());
  EXPECT_EQ(Inside({"ls", HomeFolder()}).out, "bin\nmade\nother-0000\n");
}

}  // namespace
}  // namespace hermes
