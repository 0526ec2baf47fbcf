#include "sync/tar_writer.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"
#include "tests/sync/process.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

RelPath Path(std::string_view text) { return *RelPath::Parse(text); }

std::string Entry(std::string_view name, std::string_view content, uint32_t mode = 0644) {
  std::string bytes = TarHeader({.name = Path(name), .size = content.size(), .mode = mode});
  bytes += content;
  bytes += TarPadding(content.size());
  return bytes;
}

// Names on both sides of every limit of the plain form, and bytes that are no text.
std::map<std::string, std::string> Sample() {
  std::map<std::string, std::string> files = {
      {"a", "one"},
      {"-rf", "a name like an option"},
      {"with space/and 'quote'", std::string(511, 'x')},
      {"block", std::string(512, 'y')},
      {"empty", ""},
      {"caf\xc3\xa9", "utf-8"},
      {"caf\xe9", "latin-1"},
      {"esc\x1b[31m", "terminal"},
      {"many", std::string(100'000, 'z')},
  };
  for (size_t length : {99, 100, 101, 155, 156, 255}) {
    files[std::string(length, 'n')] = std::to_string(length);
    const std::string deep = "d/" + std::string(length - 2, 'p') + "/" + std::string(100, 'n');
    files[deep] = "deep";
  }
  files["q/" + std::string(200, 'l') + "/" + std::string(200, 'm') + "/leaf"] = "long";
  std::string deepest;
  for (int i = 0; i < 60; ++i) deepest += std::string(60, 'k') + "/";
  files[deepest + "leaf"] = "deepest";
  return files;
}

std::string Archive() {
  std::string bytes;
  for (const auto& [name, content] : Sample()) bytes += Entry(name, content);
  bytes += TarEnd();
  return bytes;
}

class TarWriterTest : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(TarWriterTest, IsUnpackedWholeAndWithoutAWordByRealPrograms) {
  TempDir dir;
  const std::string target = dir.path() + "/out";
  fs::create_directory(target);
  Ran ran = RunProgram(target, GetParam(), Archive());
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.out + ran.err, "");
  EXPECT_EQ(FilesBelow(target), Sample());
}

INSTANTIATE_TEST_SUITE_P(Programs, TarWriterTest,
                         testing::Values(std::vector<std::string>{"tar", "-xf", "-"},
                                         std::vector<std::string>{"busybox", "tar", "-xf", "-"}),
                         [](const auto& info) {
                           return info.param[0] == "tar" ? "GnuTar" : "Busybox";
                         });

TEST(TarWriterFormTest, IsReadWholeByLibarchive) {
  const std::string bytes = Archive();
  archive* reader = archive_read_new();
  archive_read_support_format_tar(reader);
  ASSERT_EQ(archive_read_open_memory(reader, bytes.data(), bytes.size()), ARCHIVE_OK);
  std::map<std::string, std::string> files;
  archive_entry* entry = nullptr;
  int result = ARCHIVE_OK;
  while ((result = archive_read_next_header(reader, &entry)) == ARCHIVE_OK) {
    std::string content(static_cast<size_t>(archive_entry_size(entry)), '\0');
    EXPECT_EQ(archive_read_data(reader, content.data(), content.size()),
              static_cast<la_ssize_t>(content.size()));
    files[archive_entry_pathname(entry)] = content;
    EXPECT_EQ(archive_entry_perm(entry), 0644U);
  }
  EXPECT_EQ(result, ARCHIVE_EOF);
  EXPECT_EQ(files, Sample());
  archive_read_free(reader);
}

TEST(TarWriterFormTest, KeepsTheExecutableBitAndNeverSetuid) {
  TempDir dir;
  const std::string bytes = Entry("x", "#!", 0755) + Entry("s", "#!", 06700) +
                            Entry("secret", "k", 0600) + std::string(TarEnd());
  ASSERT_EQ(RunProgram(dir.path(), {"tar", "-xpf", "-"}, bytes).code, 0);
  auto mode = [&](const char* name) {
    struct stat about{};
    EXPECT_EQ(stat((dir.path() + "/" + name).c_str(), &about), 0);
    return about.st_mode & 07777;
  };
  EXPECT_EQ(mode("x"), 0755U);
  EXPECT_EQ(mode("s"), 0700U);
  EXPECT_EQ(mode("secret"), 0600U);
}

TEST(TarWriterFormTest, LeavesTheModesOfExistingDirectories) {
  TempDir dir;
  fs::create_directory(dir.path() + "/d");
  chmod((dir.path() + "/d").c_str(), 0711);
  const std::string bytes = Entry("d/x", "1") + std::string(TarEnd());
  ASSERT_EQ(RunProgram(dir.path(), {"tar", "-xpf", "-"}, bytes).code, 0);
  struct stat about{};
  ASSERT_EQ(stat((dir.path() + "/d").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0711U);
}

TEST(TarWriterFormTest, WritesSizesBeyondElevenOctalDigits) {
  const uint64_t size = 9ull << 30;
  const std::string header = TarHeader({.name = Path("big"), .size = size});
  archive* reader = archive_read_new();
  archive_read_support_format_tar(reader);
  ASSERT_EQ(archive_read_open_memory(reader, header.data(), header.size()), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  ASSERT_EQ(archive_read_next_header(reader, &entry), ARCHIVE_OK);
  EXPECT_EQ(archive_entry_size(entry), static_cast<la_int64_t>(size));
  archive_read_free(reader);
}

TEST(TarWriterFormTest, SpendsOneBlockOnAFileWithAShortName) {
  EXPECT_EQ(TarHeader({.name = Path("o/12"), .size = 1}).size(), 512U);
  EXPECT_EQ(TarPadding(0).size(), 0U);
  EXPECT_EQ(TarPadding(1).size(), 511U);
  EXPECT_EQ(TarPadding(512).size(), 0U);
  EXPECT_EQ(TarEnd().size(), 1024U);
}

}  // namespace
}  // namespace hermes::sync
