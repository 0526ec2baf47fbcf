// What real programs pack is unpacked whole.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"
#include "tests/sync/process.h"
#include "tests/sync/unpack_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> Tree() {
  std::map<std::string, std::string> files = {
      {"a", "content"},
      {"empty", ""},
      {"d/e/f", std::string(60'000, 'x')},
      {"caf\xc3\xa9", "utf-8"},
      {"blank and 'quote'", "q"},
      {std::string(100, 'n'), "100"},
      {std::string(101, 'n'), "101"},
      {std::string(99, 'p') + "/" + std::string(100, 'n'), "prefix"},
  };
  std::string deep;
  for (int i = 0; i < 10; ++i) deep += std::string(50, 'k') + "/";
  files[deep + "leaf"] = "deep";
  return files;
}

std::vector<std::string> Names(const std::map<std::string, std::string>& files) {
  std::vector<std::string> names;
  for (const auto& [name, content] : files) names.push_back(name);
  return names;
}

class UnpackProgramsTest : public testing::TestWithParam<std::vector<std::string>> {
 protected:
  // What the program writes of `names` in the tree.
  std::string Packed(const std::vector<std::string>& names) {
    std::vector<std::string> words = GetParam();
    words.insert(words.end(), names.begin(), names.end());
    Ran ran = RunProgram(dir_.path(), words);
    EXPECT_EQ(ran.code, 0) << ran.err;
    return ran.out;
  }
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  TempDir dir_;
};

TEST_P(UnpackProgramsTest, ATreeComesWhole) {
  for (const auto& [name, content] : Tree()) Spit(Path(name), content);
  const std::vector<std::string> names = Names(Tree());
  Unpacked outcome = Unpack(RequestFor(names), Packed(names));
  EXPECT_EQ(Word(outcome.verdict), "clean") << outcome.Told();
  EXPECT_EQ(outcome.staged, Tree());
}

TEST_P(UnpackProgramsTest, NamesThatAreNoTextComeWhole) {
  const std::vector<std::string> names = {"caf\xe9", "esc\x1b[2J", std::string(120, '\xff')};
  for (const std::string& name : names) Spit(Path(name), "odd name");
  Unpacked outcome = Unpack(RequestFor(names), Packed(names));
  EXPECT_EQ(Word(outcome.verdict), "clean") << outcome.Told();
  EXPECT_EQ(outcome.staged.size(), names.size());
}

TEST_P(UnpackProgramsTest, FilesThatAreOneInodeComeUnderBothNames) {
  Spit(Path("one"), "shared");
  fs::create_hard_link(Path("one"), Path("two"));
  const std::map<std::string, std::string> both = {{"one", "shared"}, {"two", "shared"}};
  Unpacked outcome = Unpack(RequestFor({"one", "two"}), Packed({"one", "two"}));
  EXPECT_EQ(Word(outcome.verdict), "clean") << outcome.Told();
  EXPECT_EQ(outcome.staged, both);
}

TEST_P(UnpackProgramsTest, WhatIsNoFileAnyMoreIsSkippedAndTheRestComes) {
  for (const char* name : {"first", "last", "dir/x", "dir/sub/y"}) Spit(Path(name), name);
  fs::create_symlink("/etc/passwd", Path("link"));
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  Spit(Path("setuid"), "su");
  ASSERT_EQ(chmod(Path("setuid").c_str(), 04755), 0);
  const std::vector<std::string> names = {"first", "link", "fifo", "dir", "setuid", "last"};
  Unpacked outcome = Unpack(RequestFor(names), Packed(names));
  EXPECT_EQ(Word(outcome.verdict), "odd") << outcome.Told();
  EXPECT_EQ(Names(outcome.staged), (std::vector<std::string>{"first", "last", "setuid"}));
}

TEST_P(UnpackProgramsTest, ASparseFileComesWholeOrIsSkipped) {
  Spit(Path("sparse"), "begin");
  ASSERT_EQ(truncate(Path("sparse").c_str(), 50'000), 0);
  Spit(Path("last"), "last");
  Unpacked outcome = Unpack(RequestFor({"sparse", "last"}), Packed({"sparse", "last"}));
  EXPECT_TRUE(outcome.lies.empty()) << outcome.Told();
  EXPECT_TRUE(outcome.staged.contains("last"));
  if (outcome.staged.contains("sparse")) EXPECT_EQ(outcome.staged["sparse"].size(), 50'000U);
}

std::vector<std::string> Python(const std::string& format) {
  return {"python3", "-c",
          "import sys,tarfile\n"
          "with tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=tarfile." +
              format +
              "_FORMAT) as t:\n"
              "  for n in sys.argv[1:]: t.add(n)"};
}

INSTANTIATE_TEST_SUITE_P(
    Writers, UnpackProgramsTest,
    testing::Values(std::vector<std::string>{"tar", "-cf", "-", "--"},
                    std::vector<std::string>{"tar", "--format=posix", "-cf", "-", "--"},
                    std::vector<std::string>{"tar", "--sparse", "-cf", "-", "--"},
                    std::vector<std::string>{"tar", "--format=posix", "--sparse", "-cf", "-", "--"},
                    std::vector<std::string>{"busybox", "tar", "-cf", "-", "--"}, Python("GNU"),
                    Python("PAX")));

}  // namespace
}  // namespace hermes::sync
