#include <sched.h>
#include <sys/stat.h>

#include "tests/runner/files_stand.h"

namespace hermes::test {
namespace {

using FilesApplyTest = FilesTest;

TEST_F(FilesApplyTest, MakesTheRootAndWhatItWasGiven) {
  std::filesystem::remove(root);
  scope.root = root += "/below/it";
  EXPECT_EQ(
      ApplyAll({{"a/b/run", "", "#!/bin/sh\n", true}, {"a/data", "", std::string(300'000, 'z')}}),
      "pp");
  EXPECT_EQ(last.status, runner::kFilesDone);
  EXPECT_EQ(Get("a/b/run"), "#!/bin/sh\n");
  EXPECT_EQ(Get("a/data")->size(), 300'000u);
  EXPECT_EQ(Mode("a/b/run"), 0755);
  EXPECT_EQ(Mode("a/data"), 0644);
  EXPECT_EQ(Mode("a"), 0755);
}

TEST_F(FilesApplyTest, BytesThatCameOnceServeSeveralFiles) {
  const std::string big(300'000, 'z');
  EXPECT_EQ(ApplyAll({{"a", "", big},
                      {"b/run", "", big, true, true, 0},
                      {"c", Spelled("other"), big, false, true, 0}}),
            "ppp");
  EXPECT_EQ(Get("a"), big);
  EXPECT_EQ(Get("b/run"), big);
  EXPECT_EQ(Get("c"), big);
  EXPECT_EQ(Mode("a"), 0644);
  EXPECT_EQ(Mode("b/run"), 0755);
  EXPECT_EQ(std::filesystem::hard_link_count(root + "/a"), 1u);
  EXPECT_EQ(ApplyAll({{"d", "", big, false, false}, {"e", "", big, false, true, 0}}), "ff");
}

// hermesd runs with one that shuts everybody else out.
TEST_F(FilesApplyTest, V48NewDirectoriesHaveTheModeOfNoUmask) {
  std::filesystem::remove(root);
  for (const mode_t mask : {077u, 002u, 000u}) {
    scope.root = root = directory + "/root-" + std::to_string(mask);
    const mode_t before = umask(mask);
    EXPECT_EQ(ApplyAll({{"a/f", "", "1"}}), "p");
    EXPECT_EQ(ApplyAll({{"b/c/f", "", "1"}}), "p");
    EXPECT_EQ(ApplyAll({{"k/key", "", "s"}}, true), "p");
    umask(before);
    for (const char* name : {"", "a", "b", "b/c"}) EXPECT_EQ(Mode(name), 0755) << mask << name;
    EXPECT_EQ(Mode("a/f"), 0644);
    EXPECT_EQ(Mode("k"), 0700);
  }
}

TEST_F(FilesApplyTest, BytesThatNeverCameAreALie) {
  for (const uint32_t index : {1u, 2u, 0xffffffffu})
    EXPECT_NE(ApplyAll({{"a", "", "1"}, {"b", "", "1", false, true, index}}).find("malformed"),
              std::string::npos)
        << index;
  EXPECT_NE(ApplyAll({{"a", Spelled("1")}, {"b", "", "1", false, true, 0}}).find("malformed"),
            std::string::npos);
  EXPECT_FALSE(Get("b"));
}

TEST_F(FilesApplyTest, KeepsSecretsToTheAccount) {
  EXPECT_EQ(ApplyAll({{"k/key", "", "s"}, {"k/run", "", "r", true}}, true), "pp");
  EXPECT_EQ(Mode("k"), 0700);
  EXPECT_EQ(Mode("k/key"), 0600);
  EXPECT_EQ(Mode("k/run"), 0700);
}

TEST_F(FilesApplyTest, ReplacesOnlyWhatItWasToldToExpect) {
  Put("same", "new");
  Put("old", "old");
  Put("foreign", "foreign");
  Put("bit", "old", true);
  Put("unexpected", "there");
  EXPECT_EQ(ApplyAll({{"same", "", "new"},
                      {"old", Spelled("old"), "new"},
                      {"foreign", Spelled("old"), "new"},
                      {"bit", Spelled("old"), "new"},
                      {"unexpected", "", "new"},
                      {"gone", Spelled("old"), "new"}}),
            "ppcccp");
  EXPECT_EQ(last.status, runner::kFilesDone);
  EXPECT_EQ(Get("old"), "new");
  EXPECT_EQ(Get("foreign"), "foreign");
  EXPECT_EQ(Get("bit"), "old");
  EXPECT_EQ(Get("unexpected"), "there");
  EXPECT_EQ(Get("gone"), "new");
}

TEST_F(FilesApplyTest, DeletesWhatIsExpectedAndTheDirectoriesItEmpties) {
  Put("a/b/c/f", "1");
  Put("a/kept", "2");
  Put("other/f", "changed");
  EXPECT_EQ(
      ApplyAll(
          {{"a/b/c/f", Spelled("1")}, {"other/f", Spelled("known")}, {"never/was", Spelled("x")}}),
      "pcp");
  EXPECT_FALSE(std::filesystem::exists(root + "/a/b"));
  EXPECT_EQ(Get("a/kept"), "2");
  EXPECT_EQ(Get("other/f"), "changed");
  EXPECT_EQ(ApplyAll({{"a/kept", Spelled("2")}}), "p");
  EXPECT_FALSE(std::filesystem::exists(root + "/a"));
  EXPECT_TRUE(std::filesystem::exists(root));
}

TEST_F(FilesApplyTest, TurnsAFileIntoADirectoryAndBack) {
  Put("x", "file");
  Put("y/deep/f", "below");
  EXPECT_EQ(ApplyAll({{"x/f", "", "1"},
                      {"x", Spelled("file")},
                      {"y", "", "2"},
                      {"y/deep/f", Spelled("below")}}),
            "pppp");
  EXPECT_EQ(Get("x/f"), "1");
  EXPECT_EQ(Get("y"), "2");
}

TEST_F(FilesApplyTest, LeavesWhatIsInTheWay) {
  Put("dir/inside", "x");
  Put("file", "x");
  std::filesystem::create_symlink("file", root + "/link");
  ASSERT_EQ(mkfifo((root + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(ApplyAll({{"dir", "", "new"},
                      {"link", "", "new"},
                      {"fifo", "", "new"},
                      {"file/below", "", "new"},
                      {"link", Spelled("x")},
                      {"dir", Spelled("x")}}),
            "cccccc");
  EXPECT_TRUE(std::filesystem::is_symlink(root + "/link"));
  EXPECT_TRUE(std::filesystem::is_fifo(root + "/fifo"));
  EXPECT_EQ(Get("dir/inside"), "x");
  EXPECT_EQ(Get("file"), "x");
}

TEST_F(FilesApplyTest, NeverFollowsALinkBelowTheRoot) {
  const std::string outside = directory + "/outside";
  std::filesystem::create_directory(outside);
  std::ofstream(outside + "/known") << "x";
  std::filesystem::create_directory_symlink(outside, root + "/link");
  EXPECT_EQ(ApplyAll({{"link/new", "", "bad"},
                      {"link/known", Spelled("x"), "bad"},
                      {"link/known", Spelled("x")},
                      {"fine", "", "good"}}),
            "cccp");
  EXPECT_EQ(last.status, runner::kFilesDone);
  EXPECT_EQ(Get("fine"), "good");
  EXPECT_FALSE(std::filesystem::exists(outside + "/new"));
  EXPECT_EQ(std::filesystem::file_size(outside + "/known"), 1u);
}

TEST_F(FilesApplyTest, WhatIsMissingComesWholeAndTheRestFileByFile) {
  const std::vector<FilesChange> changes = {{"a/b/one", "", "1"},
                                            {"a/b/torn", "", "t", false, false},
                                            {"a/two", "", "2", true},
                                            {"kept/three", "", "3"},
                                            {"top", "", "4"}};
  for (const bool there : {false, true}) {
    std::filesystem::remove_all(root);
    if (there) Put("kept/own", "own");
    EXPECT_EQ(ApplyAll(changes), "pfppp") << there;
    EXPECT_EQ(last.status, runner::kFilesSomeFailed);
    EXPECT_EQ(Get("a/b/one"), "1");
    EXPECT_FALSE(Get("a/b/torn"));
    EXPECT_EQ(Mode("a/two"), 0755);
    EXPECT_EQ(Get("kept/three"), "3");
    EXPECT_EQ(Get("kept/own").has_value(), there);
    EXPECT_EQ(Get("top"), "4");
    EXPECT_EQ(Get(".hermesd-epoch"), std::string(kToken) + "\n");
  }
}

TEST_F(FilesApplyTest, PlacesNothingWhereAnotherTokenIs) {
  ASSERT_EQ(ApplyAll({{"a", "", "1"}}), "p");
  scope.known_epoch = std::string(kToken);
  EXPECT_EQ(ApplyAll({{"a", Spelled("1"), "2"}}), "p");
  scope.known_epoch.back() ^= 1;
  EXPECT_EQ(ApplyAll({{"a", Spelled("2"), "3"}, {"b", "", "1"}}), "ff");
  EXPECT_EQ(last.status, runner::kFilesSomeFailed);
  EXPECT_EQ(old_epoch, kToken);
  std::filesystem::remove_all(root);
  EXPECT_EQ(ApplyAll({{"a", Spelled("2"), "3"}, {"b", "", "1"}}), "ff");
  EXPECT_FALSE(std::filesystem::exists(root));
}

TEST_F(FilesApplyTest, ASecretThatWasOpenToOthersIsSoNoMore) {
  Put("key", "s");
  EXPECT_EQ(ApplyAll({{"key", "", "s"}}, true), "p");
  EXPECT_EQ(Mode("key"), 0600);
}

// Somebody saves while the old version is compared: that one is never lost.
TEST_F(FilesApplyTest, AVersionThatIsSavedMeanwhileStays) {
  const std::string old(2 << 20, 'o');
  int hits = 0;
  for (int round = 0; round < 60; ++round) {
    Put("f", old);
    Put("g", old);
    const std::string request =
        ApplyRequest(scope, {{"f", Spelled(old), "pushed"}, {"g", Spelled(old)}});
    std::ofstream(directory + "/f") << "saved";
    std::ofstream(directory + "/g") << "saved";
    std::thread saver([&, round] {
      for (int turns = 500 * round; turns > 0; --turns) sched_yield();
      for (const char* name : {"/f", "/g"}) {
        ASSERT_EQ(rename((directory + name).c_str(), (root + name).c_str()), 0);
      }
    });
    last = RunFiles(request);
    saver.join();
    ASSERT_EQ(Get("f"), "saved") << round;
    ASSERT_EQ(Get("g"), "saved") << round;
    hits += last.out.find("c 0") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(hits, 0);
}

TEST_F(FilesApplyTest, NeverRemodesADirectoryThatExisted) {
  Put("d/old", "1");
  ASSERT_EQ(chmod((root + "/d").c_str(), 0711), 0);
  ASSERT_EQ(chmod(root.c_str(), 0750), 0);
  EXPECT_EQ(ApplyAll({{"d/old", Spelled("1")}, {"d/new", "", "2"}}), "pp");
  EXPECT_EQ(Mode("d"), 0711);
  EXPECT_EQ(Mode(""), 0750);
}

TEST_F(FilesApplyTest, LeavesOutWhatIsNoVersionOfAFile) {
  EXPECT_EQ(ApplyAll({{"moved", "", "torn", false, false}, {"fine", "", "ok"}}), "fp");
  EXPECT_FALSE(Get("moved"));
  EXPECT_EQ(Get("fine"), "ok");
}

TEST_F(FilesApplyTest, PlacesNothingOfARequestThatIsCutAnywhere) {
  Put("old", "old");
  const std::string request = ApplyRequest(
      scope, {{"new", "", "1234"}, {"old", Spelled("old"), "newer"}, {"gone", Spelled("x")}});
  for (size_t i = 0; i < request.size(); ++i) {
    FilesEnd end = RunFiles(std::string_view(request).substr(0, i));
    ASSERT_EQ(end.status, runner::kFilesTrouble) << i;
    ASSERT_NE(end.out.find(" x failed "), std::string::npos) << i;
    ASSERT_EQ(Get("old"), "old") << i;
    ASSERT_FALSE(Get("new")) << i;
    ASSERT_FALSE(Get(".hermesd-epoch")) << i;
    ExpectNoStage();
  }
  EXPECT_EQ(RunFiles(request).status, runner::kFilesDone);
  EXPECT_EQ(Get("old"), "newer");
}

TEST_F(FilesApplyTest, PlacesNothingWhenTheBytesAreNotThoseThatWereSent) {
  std::string request = ApplyRequest(scope, {{"a", "", "1234"}, {"b", "", "5678"}});
  request[request.size() - 35] ^= 1;  // within the last file
  EXPECT_EQ(RunFiles(request).status, runner::kFilesTrouble);
  EXPECT_FALSE(Get("a"));
  ExpectNoStage();
}

TEST_F(FilesApplyTest, RefusesNamesThatLeadOutOrAreOurs) {
  for (const char* name : {"../out", "/abs", "a/../b", "", "a//b", "./a", "a/", "..", "ign/x",
                           ".hermesd-epoch", "a/.hermesd-stage-1/0"}) {
    scope.ignore = {"ign"};
    FilesEnd end = RunFiles(ApplyRequest(scope, {{"fine", "", "1"}, {name, "", "2"}}));
    EXPECT_EQ(end.status, runner::kFilesTrouble) << name;
    EXPECT_EQ(end.out, std::string(kMark) + " x failed the request is malformed\n") << name;
    EXPECT_TRUE(std::filesystem::is_empty(root)) << name;
  }
}

TEST_F(FilesApplyTest, SaysWhenTheRootCannotBeOne) {
  Put("file", "x");
  scope.root = root + "/file";
  EXPECT_NE(RunFiles(LookRequest(scope)).out.find(" x noroot "), std::string::npos);
  scope.root = root + "/file/below";
  EXPECT_NE(RunFiles(ApplyRequest(scope, {{"a", "", "1"}})).out.find(" x noroot "),
            std::string::npos);
}

TEST_F(FilesApplyTest, RemovesOldStagesAndLeavesFreshOnes) {
  Put(".hermesd-stage-0ld/0", "x");
  Put(".hermesd-stage-fresh/0", "x");
  const timespec old[2] = {{.tv_sec = 1'000'000'000, .tv_nsec = 0},
                           {.tv_sec = 1'000'000'000, .tv_nsec = 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, (root + "/.hermesd-stage-0ld").c_str(), old, 0), 0);
  EXPECT_EQ(RunFiles(ApplyRequest(scope, {{"a", "", "1"}})).status, runner::kFilesDone);
  EXPECT_FALSE(std::filesystem::exists(root + "/.hermesd-stage-0ld"));
  EXPECT_TRUE(std::filesystem::exists(root + "/.hermesd-stage-fresh"));
}

TEST_F(FilesApplyTest, CarriesTenThousandFilesInManyDirectories) {
  std::vector<FilesChange> changes;
  sync::FileMap files;
  for (int i = 0; i < 10'000; ++i) {
    const std::string name =
        "d" + std::to_string(i % 50) + "/e" + std::to_string(i % 3500) + "/f" + std::to_string(i);
    changes.push_back({name, "", std::to_string(i)});
    files[*sync::RelPath::Parse(name)] = {sync::DigestOf(std::to_string(i)), 0, false};
  }
  EXPECT_EQ(ApplyAll(changes), std::string(10'000, 'p'));
  EXPECT_EQ(Look().manifest.files, files);
}

}  // namespace
}  // namespace hermes::test
