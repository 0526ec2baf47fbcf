// Level B's look, with real shells and tools, against the host's own manifest.

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/runtime/status.h"
#include "sync/ignore.h"
#include "tests/engine/tree_stand.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;
using sync::Manifest;
using sync::Oddity;
using ::testing::HasSubstr;

class ShellLook : public TreeStand {};

std::string Word(std::mt19937& rng, size_t most) {
  constexpr std::string_view kTempting = " '\"$`;&|<>*?[]{}()!#~=%-\t\r\x01\x7f\x81\x88\xff\xc3";
  std::string word;
  for (size_t i = 1 + rng() % most; i > 0; --i) {
    word.push_back(rng() % 3 == 0 ? kTempting[rng() % kTempting.size()]
                                  : static_cast<char>('a' + rng() % 4));
  }
  return word;
}

TEST_P(ShellLook, FindsInRandomTreesWhatTheHostFinds) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    std::mt19937 rng(seed);
    fs::remove_all(Far());
    fs::create_directory(Far());
    for (int i = 0; i < 60; ++i) {
      std::string name = Word(rng, 5);
      for (size_t depth = rng() % 4; depth > 0; --depth) name += "/" + Word(rng, 3);
      std::error_code clash;
      if (fs::create_directories(fs::path(Far(name)).parent_path(), clash); clash) continue;
      if (fs::is_directory(Far(name), clash)) continue;
      Write(Far(name), std::string(rng() % 50, 'x'), rng() % 2 == 0);
    }
    const sync::RemoteLook look = MustLook();
    const Manifest host = HostManifest(Far());
    EXPECT_EQ(look.manifest, host) << seed;
    EXPECT_EQ(look.digest, sync::ManifestDigest(host.files));
    EXPECT_TRUE(look.exists);
    EXPECT_FALSE(look.same);
  }
}

TEST_P(ShellLook, NamesEveryOddityAsTheHostDoes) {
  Write(Far("dir/plain"), "1");
  Write(Far("dir/new\nline"), "2");
  Write(Far("back\\slash/below"), "3");
  Write(Far("big"), std::string(101, 'b'));
  Write(Far("not too big"), std::string(100, 'b'));
  fs::create_symlink("plain", Far("dir/link"));
  fs::create_symlink("dir", Far("link to a directory"));
  fs::create_symlink("nowhere", Far("broken"));
  ASSERT_EQ(mkfifo(Far("fifo").c_str(), 0600), 0);
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = Far("socket");
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  close(listener);
  root_.max_file_bytes = 100;
  const Manifest found = MustLook().manifest;
  EXPECT_EQ(found, HostManifest(Far(), {}, 100));
  EXPECT_EQ(found.oddities.at("dir/new\nline"), Oddity::kName);
  EXPECT_EQ(found.oddities.at("back\\slash"), Oddity::kName);
  EXPECT_EQ(found.oddities.at("big"), Oddity::kTooBig);
  EXPECT_EQ(found.oddities.at("broken"), Oddity::kLink);
  EXPECT_EQ(found.oddities.at("fifo"), Oddity::kSpecial);
  EXPECT_EQ(found.oddities.size(), 8u);
}

TEST_P(ShellLook, LeavesOutWhatIsNamedLikeASecret) {
  for (const char* name :
       {"d/.ssh/y", ".aws/credentials", ".env", "d/.env.local", ".npmrc", ".netrc",
        ".git-credentials", "tls/key.pem", "id_rsa", "k/id_ed25519.pub"})
    Write(Far(name), "secret");
  for (const char* name : {"d/environment", "id_map.py", "pem", "netrc"}) Write(Far(name), "1");
  root_.ignore = sync::SecretPatterns();
  const Manifest found = MustLook().manifest;
  EXPECT_EQ(found.files, HostManifest(Far(), root_.ignore).files);
  EXPECT_EQ(found.files.size(), 4u);
  EXPECT_TRUE(found.oddities.empty());
}

TEST_P(ShellLook, IgnoresWhatTheHostIgnores) {
  for (const char* name : {"a/b/c",
                           "a/x.o",
                           "x.o",
                           "deep/a/b/c",
                           "build/out",
                           "src/build/out",
                           "src/build2/out",
                           "top",
                           "sub/top",
                           "w/1/z",
                           "w/12/z",
                           "w/1/2/z",
                           "q?",
                           "qq",
                           "[x]",
                           "x",
                           ".git/config",
                           "sub/.git/config",
                           ".hermesd-stage-1/f",
                           "sub/.hermesd-undo/f",
                           ".hidden",
                           "b c/d"})
    Write(Far(name), name);
  fs::create_symlink("x", Far("link.o"));
  Write(Far("a/odd\\.o"), "");
  root_.ignore = {"*.o", "a/b", "build", "/top", "w/*/z", "q\\?", "[x]", ".git/", "b c"};
  const Manifest found = MustLook().manifest;
  EXPECT_EQ(found, HostManifest(Far(), root_.ignore));
  EXPECT_TRUE(found.files.contains(*sync::RelPath::Parse("w/1/2/z")));
  EXPECT_TRUE(found.files.contains(*sync::RelPath::Parse("sub/top")));
  EXPECT_TRUE(found.files.contains(*sync::RelPath::Parse("x")));
  EXPECT_FALSE(found.files.contains(*sync::RelPath::Parse("[x]")));
  root_.ignore = {"*"};
  EXPECT_EQ(MustLook().manifest, Manifest{});
  root_.ignore = {"?", "/*/*"};
  EXPECT_EQ(MustLook().manifest, HostManifest(Far(), root_.ignore));
}

TEST_P(ShellLook, IsShortWhenNothingChanged) {
  Write(Far("a"), "1");
  const sync::Digest digest = MustLook().digest;
  const absl::StatusOr<sync::RemoteLook> again = Look(digest);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->same);
  EXPECT_TRUE(again->manifest.files.empty());
  EXPECT_EQ(sandbox().streams, 2);
}

TEST_P(ShellLook, TellsAMissingRootFromAnEmptyOne) {
  const sync::Digest empty = sync::ManifestDigest({});
  sync::RemoteLook look = MustLook();
  EXPECT_FALSE(look.exists);
  EXPECT_EQ(look.digest, empty);
  EXPECT_TRUE(Look(empty)->same);
  fs::create_directory(Far());
  look = MustLook();
  EXPECT_TRUE(look.exists);
  EXPECT_EQ(look.digest, empty);
}

TEST_P(ShellLook, LooksBelowTheHome) {
  root_.path = "~/it's mine";
  Write(base_ + "/home/it's mine/a", "1");
  EXPECT_EQ(MustLook().manifest, HostManifest(base_ + "/home/it's mine"));
}

TEST_P(ShellLook, LooksAtOneFileOnly) {
  Write(Far("one"), "1", true);
  Write(Far("other"), "2");
  root_.only = *sync::RelPath::Parse("one");
  EXPECT_EQ(MustLook().manifest.files.size(), 1u);
  fs::remove(Far("one"));
  EXPECT_EQ(MustLook().manifest, Manifest{});
  fs::create_symlink("other", Far("one"));
  EXPECT_EQ(MustLook().manifest.oddities.at("one"), Oddity::kLink);
}

TEST_P(ShellLook, ReadsTheToken) {
  const std::string longest(64, 'e');
  Write(Far(".hermesd-epoch"), longest + "\n");
  EXPECT_EQ(MustLook().epoch, longest);
  for (std::string text : {std::string("$(reboot)aaaaaaaaaaaaaaaa"), longest + "e",
                           std::string("0123456789abcde"), std::string()}) {
    Write(Far(".hermesd-epoch"), text + "\n");
    EXPECT_EQ(MustLook().epoch, "") << text;
  }
}

TEST_P(ShellLook, WhatCannotBeReadIsNeitherThereNorGone) {
  Write(Far("a"), "1");
  Write(Far("closed file"), "2");
  Write(Far("closed/below"), "3");
  Write(Far("listed only/below"), "4");
  LeaveRoot();
  ASSERT_EQ(chmod(Far("closed file").c_str(), 0), 0);
  ASSERT_EQ(chmod(Far("closed").c_str(), 0), 0);
  ASSERT_EQ(chmod(Far("listed only").c_str(), 0400), 0);
  const Manifest found = MustLook().manifest;
  EXPECT_EQ(found.files.size(), 1u);
  EXPECT_EQ(found.oddities.at("closed file"), Oddity::kUnreadable);
  EXPECT_EQ(found.oddities.at("closed"), Oddity::kUnreadable);
  EXPECT_EQ(found.oddities.at("listed only"), Oddity::kUnreadable);
  ASSERT_EQ(chmod(Far("closed").c_str(), 0700), 0);
  ASSERT_EQ(chmod(Far("listed only").c_str(), 0700), 0);
}

TEST_P(ShellLook, RefusesARootThatItCannotEnter) {
  Write(Far("a"), "1");
  LeaveRoot();
  ASSERT_EQ(chmod(Far().c_str(), 0), 0);
  EXPECT_EQ(ReasonOf(Look().status()), Reason::k_SYNC_FAILED);
  ASSERT_EQ(chmod(Far().c_str(), 0700), 0);
}

TEST_P(ShellLook, GoesDownSixtyFourDirectories) {
  std::string name = "d";
  for (size_t i = 2; i < sync::kMaxDepth; ++i) name += "/d";
  Write(Far(name + "/f"), "just");
  Write(Far(name + "/d/f"), "too deep");
  const Manifest found = MustLook().manifest;
  EXPECT_EQ(found, HostManifest(Far()));
  EXPECT_EQ(found.files.size(), 1u);
  EXPECT_EQ(found.oddities.at(name + "/d/f"), Oddity::kName);
}

TEST_P(ShellLook, PassesOverWhatALoginShellSays) {
  Write(Far("a"), "1");
  sandbox().before = std::string(100'000, '.') + "\nWelcome @0123 h B 0 -\n";
  EXPECT_EQ(MustLook().manifest, HostManifest(Far()));
}

TEST_P(ShellLook, SaysWhichToolIsMissing) {
  if (GetParam().busybox) GTEST_SKIP() << "a busybox takes its applets for its own";
  Write(Far("a"), "1");
  const std::set<std::string> digests = {"sha256sum", "shasum", "openssl"};
  for (const auto& [tool, without] :
       std::map<std::string, std::set<std::string>>{{"find", {"find"}}, {"sha256sum", digests}}) {
    sandbox().without = without;
    const absl::Status status = Look().status();
    EXPECT_EQ(ReasonOf(status), Reason::k_CAPABILITY_MISSING) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(tool));
  }
}

TEST_P(ShellLook, TakesAnotherDigestToolIfNeedBe) {
  if (GetParam().busybox) GTEST_SKIP() << "a busybox takes its applets for its own";
  Write(Far("a b"), "1");
  Write(Far("d/cr\r"), "2", true);
  for (const char* tool : {"shasum", "openssl"}) {
    if (!fs::exists(std::string("/usr/bin/") + tool)) continue;
    sandbox().without = {"sha256sum", "shasum", "openssl"};
    sandbox().without.erase(tool);
    EXPECT_EQ(MustLook().manifest, HostManifest(Far())) << tool;
  }
}

TEST_P(ShellLook, DoesNotEnterAnotherFileSystem) {
  if (std::system("unshare -m true 2>/dev/null") != 0) GTEST_SKIP() << "no mounts of our own here";
  Write(Far("a"), "1");
  fs::create_directories(Far("d/mount \tpoint"));
  Write(base_ + "/mount.sh", "mount -t tmpfs none '" + Far("d/mount \tpoint") + "' || exit 1\n>'" +
                                 Far("d/mount \tpoint/below") + "'\nexec \"$@\"\n");
  sandbox().words = {"/usr/bin/unshare", "-m", "/bin/sh", base_ + "/mount.sh"};
  const Manifest found = MustLook().manifest;
  EXPECT_EQ(found.files.size(), 1u);
  EXPECT_EQ(found.oddities.size(), 1u);
  EXPECT_EQ(found.oddities.at("d/mount \tpoint"), Oddity::kOtherFileSystem);
}

INSTANTIATE_TEST_SUITE_P(Userlands, ShellLook, testing::ValuesIn(Userlands()), NameOfUserland);

}  // namespace
}  // namespace hermes
