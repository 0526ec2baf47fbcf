#include "tests/runner/files_stand.h"

namespace hermes::test {
namespace {

class FilesFetchTest : public FilesTest {
 protected:
  // What GNU tar makes of the answer, below `directory`/out.
  void Unpack(const std::vector<std::string>& names, std::vector<std::string> program = {}) {
    FilesEnd end = RunFiles(FetchRequest(scope, names), std::move(program));
    EXPECT_EQ(end.status, runner::kFilesDone);
    const size_t head = end.out.find('\n') + 1;
    EXPECT_TRUE(end.out.starts_with(std::string(kMark) + " h A 1 -\n"));
    EXPECT_EQ((end.out.size() - head) % 512, 0u);
    std::ofstream(directory + "/tar", std::ios::binary) << end.out.substr(head);
    root = directory + "/out";
    std::filesystem::create_directory(root);
    EXPECT_EQ(RunProgram({"/bin/tar", "-xf", directory + "/tar", "-C", root}), 0);
  }
  size_t Members() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root))
      count += entry.is_regular_file();
    return count;
  }
};

TEST_F(FilesFetchTest, IsATarOfExactlyTheNamesThatAreThere) {
  std::string bytes(100'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 256);
  const std::string exact = "e" + std::string(99, 'x');
  const std::string deep = std::string(200, 'l') + "/" + std::string(250, 'm') + "/\xc3\xa4\xff";
  Put("run", "#!", true);
  Put("empty", "");
  Put("block", std::string(512, 'b'));
  Put("d/bytes", bytes);
  Put(exact, "1");
  Put(deep, "2");
  Put("unwanted", "x");
  std::filesystem::create_symlink("run", root + "/link");
  std::filesystem::create_directory_symlink("d", root + "/dirlink");
  Unpack({"run", "empty", "block", "d/bytes", exact, deep, "gone", "link", "dirlink/bytes", "d"});
  EXPECT_EQ(Members(), 6u);
  EXPECT_EQ(Get("run"), "#!");
  EXPECT_EQ(Mode("run"), 0755);
  EXPECT_EQ(Get("empty"), "");
  EXPECT_EQ(Get("block"), std::string(512, 'b'));
  EXPECT_EQ(Get("d/bytes"), bytes);
  EXPECT_EQ(Get(exact), "1");
  EXPECT_EQ(Get(deep), "2");
}

TEST_F(FilesFetchTest, RefusesNamesThatLeadOut) {
  FilesEnd end = RunFiles(FetchRequest(scope, {"fine", "../out"}));
  EXPECT_EQ(end.status, runner::kFilesTrouble);
  EXPECT_EQ(end.out, std::string(kMark) + " x failed the request is malformed\n");
}

// The arm64 program under emulation gives what this one gives.
TEST_F(FilesFetchTest, IsTheSameOnArm64) {
  const std::string arm64 = RunnerProgram() + "-aarch64";
  const std::string emulator = "/usr/bin/qemu-aarch64";
  if (!std::filesystem::exists(arm64)) GTEST_SKIP() << "no arm64 runner in this build";
  if (!std::filesystem::exists(emulator)) GTEST_SKIP() << "no qemu-aarch64";
  const std::vector<std::string> program = {emulator, arm64, "files"};
  const std::string big(100'000, 'q');
  FilesEnd end = RunFiles(
      ApplyRequest(scope, {{"a/run", "", "#!", true}, {"b", "", big}, {"c", Spelled("x")}}),
      program);
  EXPECT_EQ(end.status, runner::kFilesDone);
  EXPECT_EQ(RunFiles(LookRequest(scope), program).out, RunFiles(LookRequest(scope)).out);
  ASSERT_TRUE(std::filesystem::remove(root + "/.hermesd-epoch"));
  Unpack({"a/run", "b"}, program);
  EXPECT_EQ(Get("a/run"), "#!");
  EXPECT_EQ(Get("b"), big);
}

}  // namespace
}  // namespace hermes::test
