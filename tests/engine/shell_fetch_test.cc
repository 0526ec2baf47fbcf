// Level B's fetch, with real shells and tools.

#include <sys/stat.h>

#include <filesystem>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "tests/engine/tree_stand.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class ShellFetch : public TreeStand {};

TEST_P(ShellFetch, GivesExactlyTheFilesThatWereAskedFor) {
  const std::vector<std::string> names = {"a", "-rf", "d/e f", "it's", "cr\r", "\xff\x81", "*"};
  for (const std::string& name : names) Write(Far(name), "bytes of " + name);
  Write(Far("other"), "not asked for");
  std::map<std::string, std::string> expected;
  for (const std::string& name : names) expected[name] = "bytes of " + name;
  const absl::StatusOr<std::string> tar = Fetch(names);
  ASSERT_TRUE(tar.ok()) << tar.status();
  EXPECT_EQ(Unpacked(*tar), expected);
}

TEST_P(ShellFetch, LeavesOutWhatIsGoneOrIsNoFile) {
  Write(Far("a"), "1");
  Write(Far("dir/below"), "2");
  fs::create_symlink("a", Far("link"));
  ASSERT_EQ(mkfifo(Far("fifo").c_str(), 0600), 0);
  absl::StatusOr<std::string> tar = Fetch({"gone", "a", "dir", "link", "fifo", "no/where"});
  ASSERT_TRUE(tar.ok()) << tar.status();
  EXPECT_THAT(Unpacked(*tar), ElementsAre(Pair("a", "1")));
  tar = Fetch({"gone", "dir"});
  ASSERT_TRUE(tar.ok()) << tar.status();
  EXPECT_THAT(Unpacked(*tar), IsEmpty());
  tar = Fetch({});
  ASSERT_TRUE(tar.ok()) << tar.status();
  EXPECT_THAT(Unpacked(*tar), IsEmpty());
}

TEST_P(ShellFetch, ManyNamesComeAsOneArchiveOutOfSeveral) {
  std::vector<std::string> names;
  std::map<std::string, std::string> expected;
  const std::string folder(200, 'f');
  for (int i = 0; i < 1'200; ++i) {
    names.push_back(folder + "/" + std::to_string(i));
    expected[names.back()] = std::string(static_cast<size_t>(i) % 700, 'x');
    Write(Far(names.back()), expected[names.back()]);
  }
  const absl::StatusOr<std::string> tar = Fetch(names);
  ASSERT_TRUE(tar.ok()) << tar.status();
  EXPECT_EQ(sandbox().streams, 3);
  EXPECT_EQ(sandbox().lane, Lane::kBulk);
  EXPECT_EQ(Unpacked(*tar), expected);
}

TEST_P(ShellFetch, FilesThatVanishOnTheWayDoNotSpoilTheRest) {
  std::vector<std::string> names;
  for (int i = 0; i < 3; ++i) {
    names.push_back("f" + std::to_string(i));
    Write(Far(names.back()), std::string(3'000'000, 'x'));
  }
  // The stream is full long before the last file is opened.
  struct Taker {
    std::string bytes;
    std::string gone;
    Task<absl::Status> Take(std::string_view piece) {
      if (bytes.empty()) fs::remove(gone);
      bytes.append(piece);
      co_return absl::OkStatus();
    }
  } taker{.bytes = {}, .gone = Far("f2")};
  const absl::Status status =
      Await(tree().Fetch(root_, {Paths(names)}, [&](std::string_view b) { return taker.Take(b); }));
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Unpacked(taker.bytes).size(), 2u);
}

TEST_P(ShellFetch, SaysThatTheRootIsGone) {
  EXPECT_EQ(ReasonOf(Fetch({"a"}).status()), Reason::k_SYNC_FAILED);
}

TEST_P(ShellFetch, SaysThatThereIsNoTar) {
  if (GetParam().busybox) GTEST_SKIP() << "a busybox takes its applets for its own";
  Write(Far("a"), "1");
  sandbox().without = {"tar"};
  const absl::Status status = Fetch({"a"}).status();
  EXPECT_EQ(ReasonOf(status), Reason::k_CAPABILITY_MISSING);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tar"));
}

TEST_P(ShellFetch, ATakerThatFailsEndsIt) {
  Write(Far("a"), std::string(3'000'000, 'x'));
  struct Taker {
    Task<absl::Status> Take(std::string_view piece) {
      co_return Error(Reason::k_DISK_FULL, "no more");
    }
  } taker;
  const absl::Status status =
      Await(tree().Fetch(root_, {Paths({"a"})}, [&](std::string_view b) { return taker.Take(b); }));
  EXPECT_EQ(ReasonOf(status), Reason::k_DISK_FULL);
}

INSTANTIATE_TEST_SUITE_P(Userlands, ShellFetch, testing::ValuesIn(Userlands()), NameOfUserland);

}  // namespace
}  // namespace hermes
