#include "client/cli.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "tests/fakes/temp_dir.h"

namespace hermes::client {
namespace {

std::variant<CommandLine, int> Parse(std::vector<const char*> words) {
  words.insert(words.begin(), "hermesctl");
  return ParseCommandLine(static_cast<int>(words.size()), words.data(), "hermesctl 1 (x)");
}

bool Accepted(std::vector<const char*> words) {
  return std::holds_alternative<CommandLine>(Parse(std::move(words)));
}

TEST(CommandLineTest, TakesTheFixedForms) {
  EXPECT_TRUE(Accepted({"--socket", "/x", "session", "ls"}));
  EXPECT_TRUE(Accepted({"session", "create", "box", "--backend", "local", "--cwd", "/", "--env",
                        "A=1", "--env", "B=2", "--ttl", "1h", "--label", "k=v"}));
  EXPECT_TRUE(Accepted({"exec", "box", "--timeout", "5s", "--cwd", "/", "--env", "K=V", "--merge",
                        "-i", "--tty", "--detach", "--no-sync", "-o", "json", "--", "true"}));
  EXPECT_TRUE(Accepted({"exec", "--argv", "box", "--", "prog", "--tty", "--", "-x"}));
  EXPECT_TRUE(Accepted({"attach", "box/c1", "--from-stdout", "1", "--from-stderr", "2"}));
  EXPECT_TRUE(Accepted({"logs", "box/c1", "-f", "--tail", "10"}));
  EXPECT_TRUE(Accepted({"ps", "box", "-o", "json"}));
  EXPECT_TRUE(Accepted({"ps", "-o", "json"}));
  EXPECT_TRUE(Accepted({"kill", "box/c1", "--signal", "TERM"}));
  EXPECT_TRUE(Accepted({"cleanup", "box", "--discard"}));
  EXPECT_TRUE(Accepted({"session",
                        "create",
                        "box",
                        "--backend",
                        "local",
                        "--mount",
                        "/a:/b:two-way,conflict=both,deletes=never",
                        "--mount",
                        "c:~/d",
                        "--mount-profile",
                        "hermes",
                        "--hermes-home",
                        "/h",
                        "--credential",
                        "x",
                        "--credential",
                        "y",
                        "--on-sync-error",
                        "fail",
                        "--sync-interval",
                        "5s"}));
  EXPECT_TRUE(Accepted({"sync", "box", "--force", "-o", "json"}));
  EXPECT_TRUE(Accepted({"sync-back", "box", "--dry-run", "--approve-deletes", "--salvage"}));
  EXPECT_TRUE(Accepted({"sync-back", "box", "-o", "json"}));
  EXPECT_TRUE(Accepted({"undo", "box/s1"}));
  EXPECT_TRUE(Accepted({"syncs", "box", "-o", "json"}));
  EXPECT_TRUE(Accepted({"session", "rm", "box"}));
  EXPECT_TRUE(Accepted({"session", "renew", "box", "30m"}));
}

TEST(CommandLineTest, ListOptionsDoNotSwallowTheName) {
  EXPECT_TRUE(Accepted({"exec", "--env", "A=1", "--label", "k=v", "box", "--", "true"}));
}

TEST(CommandLineTest, RefusesWithTheCodeOfItsOwnFailures) {
  for (std::vector<const char*> words : {std::vector<const char*>{},
                                         {"bogus"},
                                         {"exec"},
                                         {"exec", "box", "true"},
                                         {"ps", "--", "x"},
                                         {"-o", "xml", "ps"},
                                         {"session"},
                                         {"attach", "box/c1", "--from-stdout", "-1"}}) {
    auto parsed = Parse(words);
    ASSERT_TRUE(std::holds_alternative<int>(parsed));
    EXPECT_EQ(std::get<int>(parsed), 125);
  }
}

TEST(CommandLineTest, HelpAndVersionSucceed) {
  for (std::vector<const char*> words : {std::vector<const char*>{"--help"},
                                         {"--version"},
                                         {"exec", "--help"},
                                         {"session", "create", "-h"}}) {
    auto parsed = Parse(words);
    ASSERT_TRUE(std::holds_alternative<int>(parsed));
    EXPECT_EQ(std::get<int>(parsed), 0);
  }
}

TEST(BuildExecuteTest, JoinsWordsBySpacesAndAlwaysHasARequestId) {
  ExecArgs args;
  args.session = "box";
  args.words = {"echo", "a  b", "&&", "ls"};
  auto request = BuildExecute(args);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->shell(), "echo a  b && ls");
  EXPECT_EQ(request->session(), "sessions/box");
  EXPECT_EQ(request->request_id().size(), 36u);
  EXPECT_EQ(request->stdin(), v1::STDIN_NULL);
  EXPECT_EQ(request->on_disconnect(), v1::CANCEL_AFTER_GRACE);
}

TEST(BuildExecuteTest, ArgvStaysApart) {
  ExecArgs args;
  args.session = "box";
  args.words = {"printf", "%s", "a b"};
  args.argv = true;
  auto request = BuildExecute(args);
  ASSERT_TRUE(request.ok());
  ASSERT_EQ(request->argv().args_size(), 3);
  EXPECT_EQ(request->argv().args(2), "a b");
}

TEST(BuildExecuteTest, WhoeverGivesARequestIdCanComeBack) {
  ExecArgs args;
  args.session = "box";
  args.words = {"true"};
  args.request_id = "01234567-89ab-cdef-0123-456789abcdef";
  auto request = BuildExecute(args);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->request_id(), *args.request_id);
  EXPECT_EQ(request->on_disconnect(), v1::DETACH);
  args.request_id = "x";
  EXPECT_FALSE(BuildExecute(args).ok());
}

TEST(BuildExecuteTest, SecretsComeFromOurEnvironment) {
  setenv("CLIENT_TEST_SECRET", "s3cret", 1);
  ExecArgs args;
  args.session = "box";
  args.words = {"true"};
  args.secret_env = {"CLIENT_TEST_SECRET"};
  auto request = BuildExecute(args);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->secret_env().at("CLIENT_TEST_SECRET"), "s3cret");
  args.secret_env = {"CLIENT_TEST_NOT_SET"};
  EXPECT_FALSE(BuildExecute(args).ok());
}

TEST(BuildExecuteTest, LongScriptsComeFromAFile) {
  TempDir dir;
  std::string script(1 << 20, '#');
  std::ofstream(dir.path() + "/s") << script;
  ExecArgs args;
  args.session = "box";
  args.file = dir.path() + "/s";
  auto request = BuildExecute(args);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->shell(), script);
  args.file = dir.path() + "/none";
  EXPECT_FALSE(BuildExecute(args).ok());
  args.file = dir.path();
  EXPECT_FALSE(BuildExecute(args).ok()) << "a folder";
  args.file = dir.path() + "/s";
  args.words = {"true"};
  EXPECT_FALSE(BuildExecute(args).ok());
  std::ofstream(dir.path() + "/s") << std::string((4 << 20) + 1, '#');
  args.words.clear();
  EXPECT_FALSE(BuildExecute(args).ok());
}

TEST(BuildExecuteTest, RefusesBadPartsByName) {
  ExecArgs good;
  good.session = "box";
  good.words = {"true"};
  ExecArgs args = good;
  args.words.clear();
  EXPECT_FALSE(BuildExecute(args).ok());
  args = good;
  args.timeout = "5";
  EXPECT_FALSE(BuildExecute(args).ok());
  args = good;
  args.env = {"A=1", "A=2"};
  EXPECT_FALSE(BuildExecute(args).ok());
  args = good;
  args.env = {"A=\xff"};
  EXPECT_FALSE(BuildExecute(args).ok()) << "a proto string must be UTF-8";
  args = good;
  args.state = "bogus";
  EXPECT_FALSE(BuildExecute(args).ok());
}

}  // namespace
}  // namespace hermes::client
