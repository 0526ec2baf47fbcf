#include <sys/socket.h>
#include <sys/un.h>

#include <random>

#include "sync/ignore.h"
#include "tests/runner/files_stand.h"

namespace hermes::test {
namespace {

using FilesLookTest = FilesTest;
using sync::Oddity;

sync::RelPath Path(std::string_view text) { return *sync::RelPath::Parse(text); }

sync::Content ContentOf(std::string_view bytes, bool executable) {
  return {sync::DigestOf(bytes), bytes.size(), executable};
}

TEST_F(FilesLookTest, SaysThatThereIsNoRoot) {
  scope.root += "/missing";
  sync::RemoteLook look = Look();
  EXPECT_FALSE(look.exists);
  EXPECT_EQ(look.level, sync::ToolLevel::kRunner);
  EXPECT_TRUE(look.manifest.files.empty());
}

TEST_F(FilesLookTest, AgreesWithTheHostOnRandomTrees) {
  std::mt19937 random(7);
  for (int round = 0; round < 10; ++round) {
    sync::FileMap files;
    for (int i = 0; i < 60; ++i) {
      std::string name;
      for (size_t parts = 1 + random() % 4; parts > 0; --parts)
        name += std::string(name.empty() ? "" : "/") +
                std::array{"a", "a-b", "b", "\xc3\xa4 x", "-c", ".h"}[random() % 6] +
                (parts == 1 ? std::to_string(i) + ".f" : "");
      std::string bytes(random() % 2 == 0 ? random() % 130 : random() % 200'000, '\0');
      for (char& c : bytes) c = static_cast<char>(random());
      const bool executable = random() % 3 == 0;
      Put(name, bytes, executable);
      files[Path(name)] = ContentOf(bytes, executable);
    }
    sync::RemoteLook look = Look();
    EXPECT_EQ(sync::Hex(look.digest), sync::Hex(sync::ManifestDigest(files)));
    ASSERT_EQ(look.manifest.files, files);
    for (const auto& [path, content] : files)
      EXPECT_EQ(look.manifest.files.at(path).size, content.size) << path.str();
    const std::string same =
        RunFiles(LookRequest(scope, sync::Hex(sync::ManifestDigest(files)))).out;
    EXPECT_LT(same.size(), 300u);
    EXPECT_TRUE(ParseLook(same, sync::ManifestDigest(files))->same);
    std::filesystem::remove_all(root);
    std::filesystem::create_directory(root);
  }
}

TEST_F(FilesLookTest, NamesEachKindOfOddity) {
  scope.max_file_bytes = 10;
  Put("fine", "1234567890");
  Put("big", "12345678901");
  Put("new\nline", "x");
  Put("odd\\dir/below", "x");
  std::filesystem::create_symlink("fine", root + "/link");
  std::filesystem::create_directory_symlink("/usr", root + "/dirlink");
  ASSERT_EQ(mkfifo((root + "/fifo").c_str(), 0600), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (root + "/socket").copy(address.sun_path, sizeof address.sun_path - 1);
  int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(listening, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(listening);
  std::string deep;
  for (size_t i = 0; i < sync::kMaxDepth; ++i) deep += "d/";
  Put(deep + "f", "x");
  Put(".hermesd-stage-1/0", "ours");
  sync::RemoteLook look = Look();
  EXPECT_EQ(look.manifest.files.size(), 1u);
  const std::map<std::string, Oddity> expected = {
      {"big", Oddity::kTooBig},     {"new\nline", Oddity::kName}, {"odd\\dir", Oddity::kName},
      {"link", Oddity::kLink},      {"dirlink", Oddity::kLink},   {"fifo", Oddity::kSpecial},
      {"socket", Oddity::kSpecial}, {deep + "f", Oddity::kName}};
  EXPECT_EQ(look.manifest.oddities, expected);
}

TEST_F(FilesLookTest, NamesWhatItMayNotRead) {
  if (getuid() != 0) GTEST_SKIP() << "needs another account";
  Put("open/f", "x");
  Put("closed/f", "x");
  Put("shut", "x");
  ASSERT_EQ(chmod((root + "/closed").c_str(), 0700), 0);
  ASSERT_EQ(chmod((root + "/shut").c_str(), 0600), 0);
  ASSERT_EQ(chmod(directory.c_str(), 0755), 0);
  const std::string program = directory + "/runner";
  std::filesystem::copy_file(RunnerProgram(), program);
  std::vector<std::string> as_nobody = {"/usr/bin/setpriv", "--reuid=65534", "--clear-groups",
                                        "--regid=65534",    program,         "files"};
  auto look = ParseLook(RunFiles(LookRequest(scope), as_nobody).out);
  ASSERT_TRUE(look.ok()) << look.status();
  EXPECT_EQ(look->manifest.files.size(), 1u);
  const std::map<std::string, Oddity> expected = {{"closed", Oddity::kUnreadable},
                                                  {"shut", Oddity::kUnreadable}};
  EXPECT_EQ(look->manifest.oddities, expected);
}

TEST_F(FilesLookTest, IgnoresWhatTheHostIgnores) {
  std::mt19937 random(11);
  auto word = [&](std::string_view letters, size_t most) {
    std::string text;
    for (size_t n = 1 + random() % most; n > 0; --n) text += letters[random() % letters.size()];
    return text;
  };
  sync::FileMap files;
  for (int i = 0; i < 150; ++i) {
    std::string name = word("ab*?", 2) + "/" + word("ab.", 3) + "x/" + word("abc", 3);
    Put(name, "x");
    files[Path(name)] = ContentOf("x", false);
  }
  for (int round = 0; round < 20; ++round) {
    scope.ignore.clear();
    for (int i = 0; i < 3; ++i) {
      std::string pattern = word("ab*?\\c", 4);
      if (random() % 2 == 0) pattern = "/" + pattern;
      if (random() % 2 == 0) pattern += "/" + word("ab*?x", 3);
      if (random() % 4 == 0) pattern += "/";
      scope.ignore.push_back(pattern);
    }
    ASSERT_TRUE(sync::IgnoreList::CheckPatterns(scope.ignore).ok());
    const sync::IgnoreList host(scope.ignore);
    sync::FileMap expected = files;
    std::erase_if(expected, [&](const auto& entry) { return host.Ignores(entry.first.str()); });
    EXPECT_EQ(Look().manifest.files, expected)
        << scope.ignore[0] << " " << scope.ignore[1] << " " << scope.ignore[2];
  }
}

TEST_F(FilesLookTest, LeavesOutWhatIsNamedLikeASecret) {
  for (const char* name :
       {"d/.ssh/y", ".aws/credentials", ".env", "d/.env.local", ".npmrc", ".netrc",
        ".git-credentials", "tls/key.pem", "id_rsa", "k/id_ed25519.pub"})
    Put(name, "secret");
  sync::FileMap expected;
  for (const char* name : {"d/environment", "id_map.py", "pem", "netrc"}) {
    Put(name, "1");
    expected[Path(name)] = ContentOf("1", false);
  }
  scope.ignore = sync::SecretPatterns();
  const auto found = Look().manifest;
  EXPECT_EQ(found.files, expected);
  EXPECT_TRUE(found.oddities.empty());
}

TEST_F(FilesLookTest, LooksAtAFileMountsOnlyName) {
  Put("one", "1");
  Put("two", "2");
  scope.only = "two";
  EXPECT_EQ(Look().manifest.files, (sync::FileMap{{Path("two"), ContentOf("2", false)}}));
  scope.only = "three";
  EXPECT_TRUE(Look().manifest.files.empty());
}

TEST_F(FilesLookTest, FindsTheHomeAndTheToken) {
  ApplyAll({});
  EXPECT_EQ(Look().epoch, kToken);
  EXPECT_EQ(Mode(".hermesd-epoch"), 0600);
  scope.root = "~/root";
  FilesEnd end =
      RunFiles(LookRequest(scope), {"/usr/bin/env", "HOME=" + directory, RunnerProgram(), "files"});
  EXPECT_EQ(ParseLook(end.out)->epoch, kToken);
}

TEST_F(FilesLookTest, SurvivesEveryCutAndEveryFlippedByte) {
  Put("a", "x");
  const std::string request = LookRequest({.root = root, .only = "", .ignore = {"b*"}});
  for (size_t i = 0; i < request.size(); ++i) {
    FilesEnd cut = RunFiles(std::string_view(request).substr(0, i));
    EXPECT_EQ(cut.status, runner::kFilesTrouble);
    EXPECT_EQ(cut.out, "@0000000000000000 x failed the request is malformed\n");
    std::string damaged = request;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    FilesEnd end = RunFiles(damaged);
    EXPECT_GE(end.status, 0) << "byte " << i;
    EXPECT_TRUE(end.out.ends_with(" e\n") || end.out.find(" x ") != std::string::npos) << end.out;
  }
}

}  // namespace
}  // namespace hermes::test
