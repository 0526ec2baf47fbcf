// Session state over real shells: what one command leaves is what the next one finds.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "tests/fakes/shell_place.h"

namespace hermes::shell {
namespace {

using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

class EveryShell : public testing::TestWithParam<const char*> {
 protected:
  std::vector<std::string> Argv() const {
    std::string_view shell = GetParam();
    if (shell == "bash") return {"bash", "--norc", "--noprofile"};
    if (shell == "dash") return {"dash"};
    return {"busybox", "sh"};
  }
  bool bash() const { return std::string_view(GetParam()) == "bash"; }

  Place place_{bash() ? Kind::kBash : Kind::kSh, Argv()};
};

INSTANTIATE_TEST_SUITE_P(All, EveryShell, testing::Values("bash", "dash", "busybox"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(EveryShell, KeepsAnExportedVariable) {
  place_.Run("export A=1");
  EXPECT_EQ(place_.Run("echo $A").out, "1\n");
}

TEST_P(EveryShell, ForgetsAnUnsetVariable) {
  place_.Run("export A=1");
  place_.Run("unset A");
  EXPECT_EQ(place_.Run("echo ${A-none}").out, "none\n");
}

TEST_P(EveryShell, KeepsTheDirectoryOfAnEarlyExit) {
  EXPECT_EQ(place_.Run("cd /usr; exit 0").code, 0);
  EXPECT_EQ(place_.Run("pwd").out, "/usr\n");
}

TEST_P(EveryShell, KeepsTheDirectoryOfAnErrexit) {
  EXPECT_EQ(place_.Run("cd /var; set -e; false").code, 1);
  EXPECT_EQ(place_.Run("pwd; false; echo on").out, "/var\non\n");
}

TEST_P(EveryShell, CarriesNastyValuesAsData) {
  const std::string value =
      "a\nb'c\"d$(touch pwned)`touch pwned`\\ \t\x01\x7f ü $'x' !! ~ *\n"
      "declare -x B=\"1\"\nexport C='2'\n";
  place_.state.env["V"] = value;
  Ran ran = place_.Run("export W=\"$V\"; exit 0");
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_EQ(ran.after->env["W"], value);
  EXPECT_EQ(place_.Run("printf %s \"$W\"").out, value);
  EXPECT_THAT(place_.state.env, Not(Contains(Key("B"))));
  EXPECT_FALSE(std::filesystem::exists(place_.dir() + "/pwned"));
}

TEST_P(EveryShell, CarriesBytesThatAreNoText) {
  for (int c = 1; c < 256; ++c) place_.state.env["V"].push_back(static_cast<char>(c));
  std::string value = place_.state.env["V"];
  ASSERT_TRUE(place_.Run("export W=\"$V\"").after);
  EXPECT_EQ(place_.state.env["W"], value);
}

TEST_P(EveryShell, ReadsNothingFromTheOutput) {
  Ran first = place_.Run("true");
  WriteFile(place_.dir() + "/forged", first.capture);
  State state = place_.state;
  Ran ran = place_.Run("cat forged; cat forged >&2");
  EXPECT_EQ(ran.out, first.capture);
  EXPECT_EQ(place_.state, state);
}

TEST_P(EveryShell, MergesCommandsSideBySide) {
  State base = place_.state;
  Ran one = place_.RunOnly("export ONE=1; cd /usr");
  Ran two = place_.RunOnly("export TWO=2");
  ASSERT_TRUE(one.after && two.after);
  Merge(base, *one.after, {}, true, &place_.state);
  Merge(base, *two.after, {}, true, &place_.state);
  EXPECT_EQ(place_.Run("echo $ONE$TWO; pwd").out, "12\n/usr\n");
}

TEST_P(EveryShell, RunsElsewhereForOneCommand) {
  Ran ran = place_.Run("pwd; cd /var", {.cwd = "/"});
  EXPECT_EQ(ran.out, "/\n");
  EXPECT_EQ(place_.Run("pwd").out, place_.dir() + "\n");
}

TEST_P(EveryShell, LeavesNoTraceOfEnteringADirectory) {
  Ran ran = place_.RunOnly("echo \"${OLDPWD-unset}\"; set | grep ^HERMES", {.cwd = "/"});
  EXPECT_EQ(ran.out, "unset\n");
  place_.state.env["OLDPWD"] = "/usr";
  EXPECT_EQ(place_.RunOnly("echo \"${OLDPWD-unset}\"", {.cwd = "/"}).out, "/usr\n");
}

TEST_P(EveryShell, EndsBeforeTheScriptWhenTheDirectoryIsMissing) {
  Ran ran = place_.Run("echo ran", {.cwd = "/no/such"});
  EXPECT_EQ(ran.code, kBadCwdExit);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(ran.capture, "");
}

TEST_P(EveryShell, EntersDirectoriesWithAnyName) {
  for (std::string name :
       {"with space", "-", "-P", "~", "~/a b", "ünï", "it's", "a\nb", "$HOME", "nl\n"}) {
    std::string full = place_.dir() + "/" + name;
    std::filesystem::create_directories(full);
    EXPECT_EQ(place_.Run("pwd", {.cwd = full}).out, full + "\n");
    EXPECT_EQ(place_.RunOnly("pwd", {.cwd = name}).out, full + "\n");
    Ran ran = place_.RunOnly("cd \"$D\"; exit 0", {.process_env = {{"D", full}}});
    ASSERT_TRUE(ran.after) << ran.why;
    EXPECT_EQ(ran.after->cwd, full);
  }
}

TEST_P(EveryShell, DoesNotKeepWhatCameWithTheCommand) {
  Ran ran = place_.Run("echo $S $T; export S=changed",
                       {.env = {{"S", "it's"}}, .process_env = {{"T", "t"}}});
  EXPECT_EQ(ran.out, "it's t\n");
  EXPECT_EQ(place_.Run("echo ${S-none} ${T-none}").out, "none none\n");
}

TEST_P(EveryShell, LeavesOutBadNamesInTheEnvironmentText) {
  Ran ran = place_.Run("echo $OK",
                       {.env = {{"a b", "1"}, {"x;touch pwned", "1"}, {"", "1"}, {"OK", "ok"}}});
  EXPECT_EQ(ran.out, "ok\n");
  EXPECT_EQ(ran.err, "");
  EXPECT_FALSE(std::filesystem::exists(place_.dir() + "/pwned"));
}

TEST_P(EveryShell, DropsReadOnlyVariables) {
  Ran ran = place_.Run("export R=1 K=2; readonly R");
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_THAT(ran.after->env, Not(Contains(Key("R"))));
  EXPECT_THAT(ran.after->env, Contains(Pair("K", "2")));
}

TEST_P(EveryShell, DropsVariablesWithoutValueAndBookkeeping) {
  Ran ran = place_.Run("export N SHLVL=9 PWD HERMES_RUN_x=1; :");
  ASSERT_TRUE(ran.after) << ran.why;
  for (const char* name : {"N", "SHLVL", "PWD", "_", "HERMES_RUN_x", "HERMES_RUN_r"})
    EXPECT_THAT(ran.after->env, Not(Contains(Key(name))));
}

TEST_P(EveryShell, LeavesOutWhatNoProgramCouldBeStartedWith) {
  Ran ran = place_.Run(
      "x=x; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do x=$x$x; done; "
      "export BIG=$x SMALL=s");
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_THAT(ran.after->env, Not(Contains(Key("BIG"))));
  EXPECT_THAT(ran.after->env, Contains(Key("SMALL")));
}

TEST_P(EveryShell, CapturesUnderEveryOption) {
  for (const char* options : {"set -e", "set -u", "set -f", "set -C", "set -a", "set -x", "set -v",
                              "set -eufCaxv", "IFS=abc012/", "PATH=", "exec >&- 2>&-", "umask 777",
                              "trap '' INT TERM HUP PIPE", "printf() { echo p; }", "LC_ALL=C"}) {
    for (const char* end : {"exit 3", "(exit 3)"}) {
      Ran ran = place_.Run(std::string(options) + "\nexport A=1; cd /usr\n" + end);
      EXPECT_EQ(ran.code, 3) << options;
      ASSERT_TRUE(ran.after) << options << ": " << ran.why;
      EXPECT_EQ(ran.after->env["A"], "1");
      EXPECT_EQ(ran.after->cwd, "/usr");
    }
  }
}

TEST_P(EveryShell, CapturesInlineBeforeAnOwnTrap) {
  Ran ran = place_.Run("trap 'echo own $?' EXIT; export A=1; (exit 5)");
  EXPECT_EQ(ran.out, "own 5\n");
  EXPECT_EQ(ran.code, 5);
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_EQ(ran.after->env["A"], "1");
}

TEST_P(EveryShell, CapturesNothingWhenAnOwnTrapEndsItEarly) {
  Ran ran = place_.Run("trap 'echo own $?' EXIT; export A=1; exit 5");
  EXPECT_EQ(ran.out, "own 5\n");
  EXPECT_EQ(ran.code, 5);
  EXPECT_EQ(ran.capture, "");
}

TEST_P(EveryShell, CapturesNothingOfAnExec) {
  Ran ran = place_.Run("export A=1; exec true");
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.capture, "");
}

TEST_P(EveryShell, CapturesInNoChildOfTheShell) {
  Ran ran = place_.Run(
      "(export S=1; cd /; exit 3); x=$(cd /; exit 4); { cd /; exit 5; } & wait $!; "
      "sh -c 'cd /; export Z=1; exit 6'; (exit 7) | (cd /; exit 8); export A=1; kill -KILL $$");
  EXPECT_EQ(ran.signal, SIGKILL);
  EXPECT_EQ(ran.capture, "");
}

TEST_P(EveryShell, CapturesOnce) {
  for (const char* script : {"true", "exit 3", "trap 'cd /' EXIT; true"}) {
    Ran ran = place_.RunOnly(script);
    ASSERT_TRUE(ran.after) << script << ": " << ran.why;
    EXPECT_EQ(ran.after->cwd, place_.dir());
  }
}

TEST_P(EveryShell, ExitsWithTheScriptsStatusWhenTheCaptureCannotBeWritten) {
  for (const char* path : {"/dev/full", "/no/such/file", "/"}) {
    for (const char* script : {"(exit 7)", "exit 7", "set -e; (exit 7)", "set -eux; exit 7"}) {
      Ran ran = place_.RunOnly(script, {.env = {}, .capture_path = path});
      EXPECT_EQ(ran.code, 7) << path << ": " << script;
      EXPECT_THAT(ran.err, Not(HasSubstr("rror")));
      EXPECT_FALSE(ran.after);
    }
  }
}

TEST_P(EveryShell, CapturesIntoAFifo) {
  std::string path = place_.dir() + "/fifo";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  int fd = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(place_.RunOnly("export A=1; exit 3", {.capture_path = path}).code, 3);
  std::string captured(65536, '\0');
  ssize_t size = read(fd, captured.data(), captured.size());
  close(fd);
  ASSERT_GT(size, 0);
  captured.resize(static_cast<size_t>(size));
  std::string why;
  auto after = ParseCapture(place_.kind(), captured, kPlaceNonce, &why);
  ASSERT_TRUE(after) << why;
  EXPECT_EQ(after->env["A"], "1");
}

TEST_P(EveryShell, ExitsWithTheScriptsStatusWithoutDescriptors) {
  EXPECT_EQ(place_.RunOnly("ulimit -n 3; (exit 7)").code, 7);
  EXPECT_EQ(place_.RunOnly("ulimit -n 3; exit 7").code, 7);
}

TEST_P(EveryShell, LeavesNoDescriptorOpen) {
  Ran ran = place_.Run("ls /proc/self/fd | cat");
  EXPECT_EQ(ran.out, "0\n1\n2\n3\n");  // 3 is the directory that ls reads
}

TEST_P(EveryShell, ShowsTheScriptNothingOfOurs) {
  Ran ran = place_.Run("set | grep ^HERMES; export -p | grep ^HERMES; echo \"$*\"");
  EXPECT_EQ(ran.out, "\n");
}

TEST_P(EveryShell, RunsWhenStartedAheadOnAPipe) {
  std::string script = "echo begin\n# " + std::string(300000, 'x') + "\nexport A=1; exit 4\n";
  Ran ran = place_.Run(script, {.pipes = true});
  EXPECT_EQ(ran.out, "begin\n");
  EXPECT_EQ(ran.code, 4);
  EXPECT_THAT(place_.state.env, Contains(Pair("A", "1")));
}

TEST_P(EveryShell, RunsAMegabyteOfScript) {
  const std::string line = "a=$((a + 1)); b='it''s' # filler \"text\"\n";
  int lines = (1 << 20) / static_cast<int>(line.size()) + 1;
  std::string script;
  for (int i = 0; i < lines; ++i) script += line;
  Ran ran = place_.Run(script + "echo $a");
  EXPECT_EQ(ran.out, std::to_string(lines) + "\n");
  RecordProperty("milliseconds", static_cast<int>(ran.seconds * 1000));
}

TEST_P(EveryShell, RunsScriptsOfNothingButQuotes) {
  std::string script = "cat <<'E' | wc -c\n" + std::string(100000, '\'') + "\nE\n";
  EXPECT_EQ(place_.Run(script).out, "100001\n");
}

TEST_P(EveryShell, AsksForTheSudoPasswordThroughAProgram) {
  std::filesystem::create_directories(place_.dir() + "/bin");
  WriteFile(place_.dir() + "/bin/sudo", "#!/bin/sh\necho \"$*\"\n");
  chmod((place_.dir() + "/bin/sudo").c_str(), 0755);
  place_.state.env["PATH"] = place_.dir() + "/bin:/usr/bin:/bin";
  EXPECT_EQ(place_.Run("sudo id -u; export A=1", {.sudo_askpass = true}).out, "-A id -u\n");
  EXPECT_THAT(place_.state.functions, IsEmpty());
  EXPECT_EQ(place_.Run("sudo id -u").out, "id -u\n");
}

TEST_P(EveryShell, CapturesTheLoginEnvironment) {
  WriteFile(place_.dir() + "/.profile",
            "echo noise; set -e\nexport FROM_PROFILE='it'\"'\"'s'\n"
            "hello() { echo hi; }\nalias ll='ls -l'\n");
  Ran ran = place_.RunLogin(place_.dir());
  ASSERT_TRUE(ran.after) << ran.why << ran.err;
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.after->env["FROM_PROFILE"], "it's");
  EXPECT_EQ(ran.after->cwd, place_.dir());
  if (bash()) {
    EXPECT_THAT(ran.after->functions, Contains(Key("hello")));
    EXPECT_THAT(ran.after->aliases, Contains(Pair("ll", "ls -l")));
  }
}

TEST_P(EveryShell, CapturesNoLoginThatBecomesAnotherProgram) {
  WriteFile(place_.dir() + "/.profile", "exec true\n");
  Ran ran = place_.RunLogin(place_.dir());
  EXPECT_FALSE(ran.after);
  EXPECT_EQ(ran.why, "nothing captured");
}

}  // namespace
}  // namespace hermes::shell
