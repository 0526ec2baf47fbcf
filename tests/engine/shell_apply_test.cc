// Level B's apply, with real shells and tools.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/engine/tree_stand.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

mode_t ModeOf(const std::string& path) {
  struct stat seen{};
  EXPECT_EQ(lstat(path.c_str(), &seen), 0) << path;
  return seen.st_mode & 07777;
}

class ShellApply : public TreeStand {
 protected:
  // All names below the far root, sorted, ours included.
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(Far()))
      names.push_back(entry.path().string().substr(Far().size() + 1));
    std::sort(names.begin(), names.end());
    return names;
  }
};

TEST_P(ShellApply, MakesATreeWhereThereIsNone) {
  EXPECT_EQ(Placed({{.name = "a", .wanted = "1"},
                    {.name = "d/e/f", .wanted = "22", .executable = true},
                    {.name = "d/g", .wanted = ""}}),
            "ppp");
  EXPECT_THAT(Names(), ElementsAre(".hermesd-epoch", "a", "d", "d/e", "d/e/f", "d/g"));
  EXPECT_EQ(Read(Far("d/e/f")), "22");
  EXPECT_EQ(ModeOf(Far("a")), 0644u);
  EXPECT_EQ(ModeOf(Far("d/e/f")), 0755u);
  EXPECT_EQ(ModeOf(Far("d/e")), 0755u);
  EXPECT_EQ(ModeOf(Far()), 0755u);
  EXPECT_EQ(ModeOf(Far(".hermesd-epoch")), 0600u);
  EXPECT_EQ(sandbox().streams, 1);
  EXPECT_EQ(MustLook().epoch, "0123456789abcdef");
}

// hermesd runs with one that shuts everybody else out.
TEST_P(ShellApply, V48NewDirectoriesHaveTheModeOfNoUmask) {
  const std::string root = root_.path;
  for (const mode_t mask : {077u, 002u, 000u}) {
    root_.path = root + std::to_string(mask);
    const mode_t before = umask(mask);
    EXPECT_EQ(Placed({{.name = "a/f", .wanted = "1"}}), "p");
    EXPECT_EQ(Placed({{.name = "b/c/f", .wanted = "1"}}), "p");
    sync::RemoteApply secret = ApplyOf({{.name = "k/key", .wanted = "s"}});
    secret.secret = true;
    EXPECT_TRUE(Apply(secret).ok());
    umask(before);
    for (const char* name : {"", "/a", "/b", "/b/c"})
      EXPECT_EQ(ModeOf(root_.path + name), 0755u) << mask << name;
    EXPECT_EQ(ModeOf(root_.path + "/a/f"), 0644u);
    EXPECT_EQ(ModeOf(root_.path + "/k"), 0700u);
  }
}

TEST_P(ShellApply, FilesKeepTheTimesOfTheHost) {
  sync::RemoteApply apply = ApplyOf({{.name = "a", .wanted = "1"},
                                     {.name = "d/big", .wanted = std::string(100'000, 'x')},
                                     {.name = "d/same", .wanted = std::string(100'000, 'x')},
                                     {.name = "now", .wanted = "1"}});
  const int64_t times[] = {1'111'111'111, 1'222'222'222, 1'333'333'333};
  for (size_t i = 0; i < 3; ++i) apply.changes[i].mtime_ns = times[i] * 1'000'000'000;
  ASSERT_TRUE(Apply(apply).ok());
  struct stat seen{};
  for (size_t i = 0; i < 4; ++i) {
    ASSERT_EQ(stat(Far(apply.changes[i].path.str()).c_str(), &seen), 0);
    if (i < 3) EXPECT_EQ(seen.st_mtim.tv_sec, times[i]);
    if (i == 3) EXPECT_GT(seen.st_mtim.tv_sec, 1'700'000'000);
  }
}

TEST_P(ShellApply, MarksARootWithoutAnyChange) {
  EXPECT_EQ(Placed({}), "");
  EXPECT_THAT(Names(), ElementsAre(".hermesd-epoch"));
  sync::RemoteApply apply = ApplyOf({});
  apply.epoch = "ffffffffffffffff";
  EXPECT_TRUE(Apply(apply).ok());
  EXPECT_EQ(MustLook().epoch, "ffffffffffffffff");
}

TEST_P(ShellApply, KeepsSecretsToTheAccount) {
  sync::RemoteApply apply = ApplyOf(
      {{.name = "d/key", .wanted = "k"}, {.name = "d/run", .wanted = "r", .executable = true}});
  apply.secret = true;
  ASSERT_TRUE(Apply(apply).ok());
  EXPECT_EQ(ModeOf(Far()), 0700u);
  EXPECT_EQ(ModeOf(Far("d")), 0700u);
  EXPECT_EQ(ModeOf(Far("d/key")), 0600u);
  EXPECT_EQ(ModeOf(Far("d/run")), 0700u);
}

TEST_P(ShellApply, ReplacesOnlyWhatItExpects) {
  for (const char* name : {"edited", "foreign", "same", "bits", "gone here"})
    Write(Far(name), std::string("old ") + name);
  EXPECT_EQ(
      Placed({{.name = "edited", .expected = "old edited", .wanted = "new", .executable = true},
              {.name = "foreign", .expected = "what we sent", .wanted = "new"},
              {.name = "same", .expected = "what we sent", .wanted = "old same"},
              {.name = "bits", .expected = "old bits", .wanted = "new", .was_executable = true},
              {.name = "unknown/to us", .expected = "lost over there", .wanted = "back"},
              {.name = "foreign2", .wanted = "made"},
              {.name = "gone here", .wanted = "made here, too"}}),
      "pcpcppc");
  EXPECT_EQ(Read(Far("edited")), "new");
  EXPECT_EQ(ModeOf(Far("edited")), 0755u);
  EXPECT_EQ(Read(Far("foreign")), "old foreign");
  EXPECT_EQ(Read(Far("bits")), "old bits");
  EXPECT_EQ(Read(Far("unknown/to us")), "back");
  EXPECT_EQ(Read(Far("gone here")), "old gone here");
}

TEST_P(ShellApply, DeletesOnlyWhatItExpectsAndWhatBecomesEmpty) {
  Write(Far("d/e/one"), "1");
  Write(Far("d/e/two"), "2");
  Write(Far("keep/one"), "1");
  Write(Far("keep/foreign"), "f");
  Write(Far("edited"), "e");
  Write(Far("x"), "x", true);
  EXPECT_EQ(Placed({{.name = "d/e/one", .expected = "1"},
                    {.name = "d/e/two", .expected = "2"},
                    {.name = "keep/one", .expected = "1"},
                    {.name = "edited", .expected = "was"},
                    {.name = "was gone/already", .expected = "1"},
                    {.name = "x", .expected = "x", .was_executable = true}}),
            "pppcpp");
  EXPECT_THAT(Names(), ElementsAre(".hermesd-epoch", "edited", "keep", "keep/foreign"));
}

TEST_P(ShellApply, LeavesDirectoriesThatExistAsTheyAre) {
  Write(Far("d/e/old"), "1");
  ASSERT_EQ(chmod(Far("d/e").c_str(), 0711), 0);
  ASSERT_EQ(chmod(Far("d").c_str(), 02770), 0);
  const timespec times[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, Far("d").c_str(), times, 0), 0);
  EXPECT_EQ(Placed({{.name = "d/e/old", .expected = "1"}, {.name = "d/e/new", .wanted = "2"}}),
            "pp");
  EXPECT_EQ(ModeOf(Far("d")), 02770u);
  EXPECT_EQ(ModeOf(Far("d/e")), 0711u);
  struct stat seen{};
  ASSERT_EQ(stat(Far("d").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mtim.tv_sec, 1000);
}

TEST_P(ShellApply, TurnsFilesIntoDirectoriesAndBack) {
  Write(Far("file"), "1");
  Write(Far("dir/a"), "2");
  EXPECT_EQ(Placed({{.name = "file", .expected = "1"},
                    {.name = "dir/a", .expected = "2"},
                    {.name = "file/below", .wanted = "3"},
                    {.name = "dir", .wanted = "4"}}),
            "pppp");
  EXPECT_EQ(Read(Far("file/below")), "3");
  EXPECT_EQ(Read(Far("dir")), "4");
}

TEST_P(ShellApply, NothingIsPlacedWhereAnotherTokenIs) {
  EXPECT_EQ(Placed({{.name = "a", .wanted = "1"}}), "p");
  known_epoch_ = "0123456789abcdef";
  EXPECT_EQ(Placed({{.name = "a", .expected = "1", .wanted = "2"}}), "p");
  known_epoch_ = "fedcba9876543210";
  EXPECT_EQ(Placed({{.name = "a", .expected = "2", .wanted = "3"},
                    {.name = "z", .expected = "2"},
                    {.name = "b", .wanted = "1"}}),
            "fff");
  EXPECT_EQ(Read(Far("a")), "2");
  EXPECT_FALSE(fs::exists(Far("b")));
}

TEST_P(ShellApply, NothingIsPlacedThroughALinkOrOntoWhatIsNoFile) {
  const std::string outside = base_ + "/outside";
  Write(outside + "/a", "mine");
  Write(Far("real"), "mine, too");
  Write(Far("dir/x"), "x");
  fs::create_directory_symlink(outside, Far("link"));
  fs::create_symlink(outside + "/a", Far("leaf"));
  fs::create_symlink(outside, Far("dirlink"));
  ASSERT_EQ(mkfifo(Far("fifo").c_str(), 0600), 0);
  EXPECT_EQ(Placed({{.name = "link/a", .expected = "mine", .wanted = "evil"},
                    {.name = "link/b/c", .wanted = "evil"},
                    {.name = "leaf", .expected = "mine", .wanted = "evil"},
                    {.name = "dirlink", .wanted = "evil"},
                    {.name = "fifo", .wanted = "evil"},
                    {.name = "dir", .wanted = "evil"},
                    {.name = "real/below", .wanted = "evil"},
                    {.name = "fine", .wanted = "good"}}),
            "cccccccp");
  EXPECT_EQ(Read(outside + "/a"), "mine");
  EXPECT_TRUE(fs::is_symlink(Far("leaf")));
  EXPECT_EQ(std::distance(fs::directory_iterator(outside), {}), 1);
  Write(outside + "/empty/x", "1");
  EXPECT_EQ(Placed({{.name = "link/empty/x", .expected = "1"},
                    {.name = "leaf", .expected = "mine"},
                    {.name = "dir", .expected = "1"}}),
            "ccc");
  EXPECT_TRUE(fs::exists(outside + "/empty/x"));
}

TEST_P(ShellApply, TakesNamesOfAnyBytes) {
  std::mt19937 rng(7);
  std::vector<Change> changes;
  std::set<std::string> names = {"-rf",
                                 "--",
                                 "-",
                                 "~",
                                 "*",
                                 "a b",
                                 " ",
                                 "$(x)",
                                 "`x`",
                                 "'",
                                 "\"",
                                 "%s",
                                 "cr\r",
                                 "\r",
                                 "\x81\x88\x83",
                                 "\xff\xfe",
                                 "#",
                                 "&",
                                 "!",
                                 "=",
                                 "t/e",
                                 "o/1",
                                 "x/" + std::string(255, 'n')};
  for (int byte = 1; byte < 256; ++byte) {
    if (byte == '\n' || byte == '\\' || byte == '/') continue;
    names.insert("all/" + std::string(1, static_cast<char>(byte)) + "x");
  }
  std::string deep = std::string(100, 'd');
  for (int i = 0; i < 20; ++i) deep += "/" + std::string(100, 'e');
  names.insert(deep);
  for (const std::string& name : names)
    changes.push_back({.name = name, .wanted = name, .executable = rng() % 2 == 0});
  EXPECT_EQ(Placed(changes), std::string(names.size(), 'p'));
  for (const std::string& name : names) EXPECT_EQ(Read(Far(name)), name);
  const sync::RemoteLook look = MustLook();
  EXPECT_EQ(look.manifest.files.size(), names.size());
  EXPECT_EQ(look.manifest, HostManifest(Far()));

  std::vector<Change> edits;
  for (const Change& change : changes) {
    edits.push_back({.name = change.name,
                     .expected = change.wanted,
                     .wanted = *change.wanted + "!",
                     .was_executable = change.executable});
  }
  EXPECT_EQ(Placed(edits), std::string(names.size(), 'p'));
  for (Change& edit : edits) {
    edit.expected = std::exchange(edit.wanted, std::nullopt);
    edit.was_executable = false;
  }
  EXPECT_EQ(Placed(edits), std::string(names.size(), 'p'));
  EXPECT_THAT(Names(), ElementsAre(".hermesd-epoch"));
}

TEST_P(ShellApply, AFileThatChangedWhileItWasReadIsNotPlacedTheOthersAre) {
  Write(Far("b"), "old");
  sync::RemoteApply apply = ApplyOf({{.name = "a/x", .wanted = "1"},
                                     {.name = "b", .expected = "old", .wanted = "new"},
                                     {.name = "c", .wanted = "3"}});
  bytes_.fails = 1;
  EXPECT_THAT(Apply(apply)->placed,
              ElementsAre(sync::Placed::kDone, sync::Placed::kFailed, sync::Placed::kDone));
  EXPECT_EQ(Read(Far("b")), "old");
  EXPECT_EQ(Read(Far("c")), "3");
  apply = ApplyOf({{.name = "d/y", .wanted = "1"}, {.name = "e", .wanted = "2"}});
  bytes_.files = {"?", "longer than was said"};  // of the said size, and not
  EXPECT_THAT(Apply(apply)->placed, ElementsAre(sync::Placed::kFailed, sync::Placed::kFailed));
  EXPECT_FALSE(fs::exists(Far("d/y")));
  EXPECT_FALSE(fs::exists(Far("e")));
}

TEST_P(ShellApply, SendsLargeBytesOnce) {
  const std::string big(200'000, 'b');
  EXPECT_EQ(Placed({{.name = "one", .wanted = big},
                    {.name = "other/two", .wanted = big, .executable = true},
                    {.name = "small", .wanted = "s"},
                    {.name = "small too", .wanted = "s"}}),
            "pppp");
  EXPECT_THAT(bytes_.reads, ElementsAre(0, 2, 3));
  EXPECT_LT(sandbox().written, 250'000u);
  EXPECT_EQ(Read(Far("other/two")), big);
  EXPECT_EQ(ModeOf(Far("other/two")), 0755u);
  EXPECT_EQ(ModeOf(Far("one")), 0644u);
  Write(Far("one"), "changed");
  EXPECT_EQ(Read(Far("other/two")), big) << "the files share their bytes";
}

TEST_P(ShellApply, ACutRequestPlacesNothing) {
  Write(Far("old"), "old");
  Write(Far("gone"), "1");
  const std::vector<Change> changes = {{.name = "gone", .expected = "1"},
                                       {.name = "new/a", .wanted = "2"},
                                       {.name = "old", .expected = "old", .wanted = "new"}};
  ASSERT_EQ(Placed({{.name = "zero", .wanted = "1"}}), "p");
  const std::vector<std::string> before = Names();
  const uint64_t begin = sandbox().written;
  // The whole request, measured where it places nothing either.
  ASSERT_EQ(Placed({{.name = "zero", .expected = "2"},
                    {.name = "zero/b", .wanted = "2"},
                    {.name = "old", .expected = "xxx", .wanted = "new"}}),
            "ccc");
  const uint64_t size = sandbox().written - begin;
  const uint64_t step = std::max<uint64_t>(1, size / 40);
  for (uint64_t cut = 0; cut + 3000 < size; cut += step) {
    sandbox().cut_after = cut;
    const absl::Status status = Apply(changes).status();
    ASSERT_FALSE(status.ok()) << cut;
    ASSERT_EQ(Names(), before) << cut;
    ASSERT_EQ(Read(Far("old")), "old") << cut;
  }
  EXPECT_EQ(Placed(changes), "ppp");
}

TEST_P(ShellApply, TenThousandFilesInThousandsOfDirectoriesGoInOnePush) {
  // Most of it is tar's time, which is the same for both shells over GNU tools.
  const int files = GetParam().name == "Bash" ? 2'000 : 10'000;
  std::vector<Change> changes;
  for (int i = 0; i < files; ++i) {
    const std::string directory = "d" + std::to_string(i % 50) + "/e" + std::to_string(i % 3500);
    changes.push_back({.name = directory + "/f" + std::to_string(i), .wanted = std::to_string(i)});
  }
  EXPECT_EQ(Placed(changes), std::string(changes.size(), 'p'));
  EXPECT_EQ(sandbox().streams, 1);
  const sync::RemoteLook look = MustLook();
  EXPECT_EQ(look.manifest.files.size(), changes.size());
  EXPECT_EQ(look.digest, sync::ManifestDigest(HostManifest(Far()).files));
}

TEST_P(ShellApply, RemovesAStageThatIsOlderThanADay) {
  Write(Far(".hermesd-stage-old/t/a"), "1");
  Write(Far(".hermesd-stage-young/t/a"), "1");
  const timespec times[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, Far(".hermesd-stage-old").c_str(), times, 0), 0);
  EXPECT_EQ(Placed({{.name = "a", .wanted = "1"}}), "p");
  EXPECT_FALSE(fs::exists(Far(".hermesd-stage-old")));
  EXPECT_TRUE(fs::exists(Far(".hermesd-stage-young")));
  EXPECT_EQ(MustLook().manifest.files.size(), 1u);
}

TEST_P(ShellApply, ANameThatIsTooLongThereFailsAlone) {
  std::string longest(200, 'n');
  while (longest.size() < 3950) longest += "/" + std::string(200, 'n');
  EXPECT_EQ(Placed({{.name = longest, .wanted = "1"}, {.name = "a", .wanted = "2"}}), "fp");
  EXPECT_EQ(Read(Far("a")), "2");
}

TEST_P(ShellApply, WhatCannotBeWrittenFailsAloneAndTheRestProceeds) {
  Write(Far("read only/old"), "1");
  Write(Far("read only/gone"), "2");
  Write(Far("closed"), "3");
  Write(Far("fine/gone"), "4");
  LeaveRoot();
  ASSERT_EQ(chmod(Far("read only").c_str(), 0555), 0);
  ASSERT_EQ(chmod(Far("closed").c_str(), 0), 0);
  EXPECT_EQ(Placed({{.name = "read only/gone", .expected = "2"},
                    {.name = "fine/gone", .expected = "4"},
                    {.name = "read only/old", .expected = "1", .wanted = "new"},
                    {.name = "read only/new/a", .wanted = "new"},
                    {.name = "read only/b", .wanted = "new"},
                    {.name = "closed", .expected = "3", .wanted = "new"},
                    {.name = "good/a", .wanted = "new"}}),
            "fpffffp");
  EXPECT_EQ(Read(Far("good/a")), "new");
  EXPECT_EQ(Read(Far("read only/old")), "1");
  EXPECT_FALSE(fs::exists(Far("fine")));
  ASSERT_EQ(chmod(Far("read only").c_str(), 0755), 0);
}

TEST_P(ShellApply, RefusesARootThatCannotBeWritten) {
  Write(Far("a"), "1");
  LeaveRoot();
  ASSERT_EQ(chmod(Far().c_str(), 0555), 0);
  const absl::Status status = Apply({{.name = "a", .expected = "1", .wanted = "2"}}).status();
  EXPECT_EQ(ReasonOf(status), Reason::k_SYNC_FAILED);
  EXPECT_THAT(std::string(status.message()), HasSubstr("Permission denied"));
  EXPECT_EQ(Read(Far("a")), "1");
  ASSERT_EQ(chmod(Far().c_str(), 0755), 0);
}

// By a tool that is needed between the comparison and the rename.
TEST_P(ShellApply, WhatIsSavedAfterItWasComparedStays) {
  if (GetParam().busybox) GTEST_SKIP() << "a busybox takes its applets for its own";
  Write(base_ + "/tools/paste",
        "#!/bin/sh\nuntil [ " + Far("a") + " -nt " + Far(".hermesd-stage-*/have") +
            " ]; do printf saved >" + Far("a") + "; done\nexec /usr/bin/paste \"$@\"\n",
        true);
  sandbox().words = {"/usr/bin/env", "PATH=" + base_ + "/tools:/usr/bin:/bin"};
  for (const std::optional<std::string>& wanted : {std::optional<std::string>("2"), {}}) {
    Write(Far("a"), "1");
    Write(Far("b"), "1");
    EXPECT_EQ(Placed({{.name = "a", .expected = "1", .wanted = wanted},
                      {.name = "b", .expected = "1", .wanted = wanted}}),
              "cp");
    EXPECT_EQ(Read(Far("a")), "saved");
  }
}

// One that was unpacked with a date to come: only its bytes can be gone by.
TEST_P(ShellApply, AFileOfTomorrowIsComparedByItsBytes) {
  Write(Far("a"), "1");
  fs::last_write_time(Far("a"), fs::file_time_type::clock::now() + std::chrono::hours(24));
  EXPECT_EQ(Placed({{.name = "a", .expected = "1", .wanted = "2"}}), "p");
  EXPECT_EQ(Read(Far("a")), "2");
}

TEST_P(ShellApply, RefusesARootThatIsNoDirectory) {
  Write(Far(), "a file");
  const absl::StatusOr<sync::RemoteApplied> applied = Apply({{.name = "a", .wanted = "1"}});
  EXPECT_EQ(ReasonOf(applied.status()), Reason::k_SYNC_FAILED) << applied.status();
  EXPECT_EQ(Read(Far()), "a file");
}

TEST_P(ShellApply, SaysThatThereIsNoTar) {
  if (GetParam().busybox) GTEST_SKIP() << "a busybox takes its applets for its own";
  sandbox().without = {"tar"};
  EXPECT_EQ(ReasonOf(Apply({{.name = "a", .wanted = "1"}}).status()), Reason::k_CAPABILITY_MISSING);
  EXPECT_FALSE(fs::exists(Far()));
}

TEST_P(ShellApply, AFullDiskIsToldAsOne) {
  if (std::system("unshare -m true 2>/dev/null") != 0) GTEST_SKIP() << "no mounts of our own here";
  fs::create_directory(Far());
  Write(base_ + "/mount.sh",
        "mount -t tmpfs -o size=256k none " + Far() + " || exit 1\nexec \"$@\"\n");
  sandbox().words = {"/usr/bin/unshare", "-m", "/bin/sh", base_ + "/mount.sh"};
  const absl::StatusOr<sync::RemoteApplied> applied =
      Apply({{.name = "a", .wanted = "1"}, {.name = "b", .wanted = std::string(2 << 20, 'b')}});
  EXPECT_EQ(ReasonOf(applied.status()), Reason::k_DISK_FULL) << applied.status();
}

INSTANTIATE_TEST_SUITE_P(Userlands, ShellApply, testing::ValuesIn(Userlands()), NameOfUserland);

}  // namespace
}  // namespace hermes
