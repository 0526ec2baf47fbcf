#include "sync/manifest.h"

#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::sync {
namespace {

constexpr size_t kPlenty = 1000;

RelPath Path(std::string_view text) { return *RelPath::Parse(text); }

Content Bytes(std::string_view bytes, bool executable = false) {
  return {DigestOf(bytes), bytes.size(), executable};
}

std::string Line(std::string_view bytes, const std::string& name) {
  return Hex(DigestOf(bytes)) + "  " + name + "\n";
}

std::string Complaint(const std::string& text, size_t max_files = kPlenty) {
  const absl::StatusOr<FileMap> parsed = ParseManifest(text, max_files);
  EXPECT_FALSE(parsed.ok()) << text;
  EXPECT_NE(ReasonOf(parsed.status()), std::nullopt);
  return std::string(parsed.status().message());
}

TEST(ManifestTest, PutsExecutableFilesFirstAndSortsEachGroupBytewise) {
  const FileMap files = {{Path("b"), Bytes("1")},
                         {Path("a/x"), Bytes("2", true)},
                         {Path("B"), Bytes("3")},
                         {Path("a-x"), Bytes("4", true)},
                         {Path("\xff"), Bytes("5")}};
  EXPECT_EQ(CanonicalText(files), Line("4", "a-x") + Line("2", "a/x") + "-\n" + Line("3", "B") +
                                      Line("1", "b") + Line("5", "\xff"));
  EXPECT_EQ(CanonicalText({}), "-\n");
}

TEST(ManifestTest, ReadsBackWhatItWrites) {
  const FileMap files = {{Path("a b"), Bytes("1", true)},
                         {Path("a/b"), Bytes("2")},
                         {Path("a-b"), Bytes("3")},
                         {Path("-"), Bytes("4")},
                         {Path("\x1b[31m\r"), Bytes("5", true)}};
  const absl::StatusOr<FileMap> again = ParseManifest(CanonicalText(files), kPlenty);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, files);
  EXPECT_TRUE(ParseManifest("-\n", 0)->empty());
}

TEST(ManifestTest, DigestTellsContentNameAndExecutability) {
  const FileMap one = {{Path("a"), Bytes("1")}};
  EXPECT_EQ(ManifestDigest(one), DigestOf("-\n" + Line("1", "a")));
  EXPECT_NE(ManifestDigest(one), ManifestDigest({{Path("b"), Bytes("1")}}));
  EXPECT_NE(ManifestDigest(one), ManifestDigest({{Path("a"), Bytes("2")}}));
  EXPECT_NE(ManifestDigest(one), ManifestDigest({{Path("a"), Bytes("1", true)}}));
}

TEST(ManifestTest, RefusesWhatItWouldNotWrite) {
  const std::string a = Line("1", "a");
  const std::string b = Line("1", "b");
  EXPECT_NE(Complaint("").find("no separator"), std::string::npos);
  EXPECT_NE(Complaint(a).find("no separator"), std::string::npos);
  EXPECT_NE(Complaint("-\n-\n").find("second separator"), std::string::npos);
  EXPECT_NE(Complaint("-\n" + b + a).find("out of order"), std::string::npos);
  EXPECT_NE(Complaint("-\n" + a + a).find("out of order"), std::string::npos);
  EXPECT_NE(Complaint(a + "-\n" + a).find("twice"), std::string::npos);
  EXPECT_NE(Complaint("-\n" + a.substr(0, a.size() - 1)).find("unfinished"), std::string::npos);
  EXPECT_NE(Complaint("-\n" + a + "\n").find("no digest"), std::string::npos);
  EXPECT_NE(Complaint("-\n" + Hex(DigestOf("1")) + "  \n").find("no digest"), std::string::npos);
  EXPECT_NE(Complaint("-\n" + Hex(DigestOf("1")) + " *a\n").find("no digest"), std::string::npos);
  EXPECT_NE(Complaint("-\nA" + a.substr(1)).find("bad digest"), std::string::npos);
  EXPECT_NE(Complaint("-\n" + Line("1", "a\\b")).find("quoting"), std::string::npos);
  EXPECT_NE(Complaint("Welcome!\n-\n" + a).find("no digest"), std::string::npos);
}

TEST(ManifestTest, RefusesNamesThatLeaveTheMount) {
  for (const char* name : {"/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/"}) {
    const absl::StatusOr<FileMap> parsed = ParseManifest("-\n" + Line("1", name), kPlenty);
    EXPECT_EQ(ReasonOf(parsed.status()), Reason::k_PATH_ESCAPES_ROOT) << name;
  }
}

TEST(ManifestTest, RefusesAFileBelowAFile) {
  EXPECT_NE(Complaint(Line("1", "a") + "-\n" + Line("1", "a/b/c")).find("below"),
            std::string::npos);
  EXPECT_NE(Complaint("-\n" + Line("1", "a") + Line("1", "a-b") + Line("1", "a/b")).find("below"),
            std::string::npos);
}

TEST(ManifestTest, RefusesMoreFilesThanAllowed) {
  const std::string two = "-\n" + Line("1", "a") + Line("1", "b");
  EXPECT_TRUE(ParseManifest(two, 2).ok());
  EXPECT_NE(Complaint(two, 1).find("more files"), std::string::npos);
}

TEST(ManifestTest, NeverReadsAHalfText) {
  const std::string text =
      Line("1", "a") + Line("2", "b/c") + "-\n" + Line("3", "b/d") + Line("4", "e");
  const size_t last = text.rfind('\n', text.size() - 2) + 1;
  const size_t before = text.rfind('\n', last - 2) + 1;
  for (size_t size = 0; size < text.size(); ++size) {
    // At the end of a line of the second group only the digest of the whole can tell.
    const bool whole_line = size == last || size == before;
    EXPECT_EQ(ParseManifest(text.substr(0, size), kPlenty).ok(), whole_line) << size;
  }
}

std::string Output(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (size_t got = fread(buffer, 1, sizeof(buffer), pipe)) output.append(buffer, got);
  EXPECT_EQ(pclose(pipe), 0);
  return output;
}

TEST(ManifestTest, IsWhatAShellSays) {
  TempDir dir;
  FileMap files;
  for (const char* name : {"a", "a b", "a-b", "d/e/f", "d/\xc3\xa9", "Z", "-n", "*"}) {
    const std::string path = dir.path() + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << "bytes of " << name;
    const bool executable = name[0] == 'd';
    chmod(path.c_str(), executable ? 0755 : 0644);
    files.emplace(Path(name), Bytes(std::string("bytes of ") + name, executable));
  }
  // The common ground of GNU and busybox, as a far side without our program answers.
  const std::string list = " -exec sha256sum {} + | sed 's,  \\./,  ,' | LC_ALL=C sort -k2";
  const std::string text = Output("cd " + dir.path() + " && { find . -type f -perm -100" + list +
                                  "; echo -; find . -type f ! -perm -100" + list + "; }");
  EXPECT_EQ(text, CanonicalText(files));
}

TEST(ManifestTest, RelatesNamesPartByPart) {
  EXPECT_TRUE(Related("a", "a"));
  EXPECT_TRUE(Related("a/b", "a"));
  EXPECT_TRUE(Related("a", "a/b/c"));
  EXPECT_FALSE(Related("a", "ab"));
  EXPECT_FALSE(Related("a/b", "a/c"));
}

TEST(ManifestTest, FindsAFileFarAboveAnother) {
  std::string deep = std::string(40, 'a');
  for (int i = 0; i < 60; ++i) deep += "/" + std::string(40, 'b');
  FileMap files;
  files.emplace(*RelPath::Parse(deep), Content{DigestOf("x"), 0, false});
  EXPECT_TRUE(ParseManifest(CanonicalText(files), 10).ok());
  files.emplace(*RelPath::Parse(std::string(40, 'a')), Content{DigestOf("y"), 0, true});
  EXPECT_EQ(ReasonOf(ParseManifest(CanonicalText(files), 10).status()), Reason::k_SYNC_FAILED);
}

}  // namespace
}  // namespace hermes::sync
