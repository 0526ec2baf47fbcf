// Pushes whose answer or whose token was lost.

#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
class PushTest : public SyncStand {};

TEST_F(PushTest, AFarEndThatLostItsTokenGetsEverythingOnceAndIsKnownAgain) {
  Agree({{"a", "1"}, {"gone", "1"}, {"same", "1"}});
  fs::remove(Far(".hermesd-epoch"));
  WriteFar("same", "edited there");
  WriteHost("a", "2");
  MustPush();
  EXPECT_TRUE(manager().Clean());
  EXPECT_EQ(FarFiles().at("a"), "2") << "nobody over there had edited it";
  EXPECT_EQ(FarFiles().at("same"), "edited there");
  WriteHost("b", "1");
  far().sent.clear();
  MustPush();
  EXPECT_THAT(far().sent, ::testing::ElementsAre("b"));
  fs::remove(Host("b"));
  MustPush();
  EXPECT_FALSE(FarFiles().contains("b"));
  EXPECT_TRUE(manager().Clean());
}

TEST_F(PushTest, AFirstPushThatFailsEarlyTellsItsTokenTheNextTime) {
  WriteHost("a", "1");
  Open();
  int left = 1;
  far().hooks.before = [&](std::string_view) {
    return left-- > 0 ? Error(Reason::k_SYNC_FAILED, "no room") : absl::OkStatus();
  };
  EXPECT_FALSE(Push().ok());
  MustPush();
  EXPECT_TRUE(manager().Clean());
  WriteHost("a", "2");
  far().sent.clear();
  const int applies = far().applies;
  MustPush();
  EXPECT_EQ(far().applies, applies + 1);
  EXPECT_EQ(FarFiles(), (Files{{"a", "2"}}));
}

TEST_F(PushTest, AnEditBehindAPushWithoutAnAnswerIsNoConflict) {
  for (const bool restarts : {false, true}) {
    for (const bool pulls_first : {false, true}) {
      Empty();
      Agree({{"a", "1"}, {"gone", "1"}});
      WriteHost("a", "2");
      fs::remove(Host("gone"));
      int cuts = 0;
      far().hooks.after_apply = [&] {
        WriteHost("a", "2" + std::string(static_cast<size_t>(++cuts), '+'));
        return Error(Reason::k_BACKEND_UNREACHABLE, "cut");
      };
      EXPECT_EQ(ReasonOf(Push().status()), Reason::k_BACKEND_UNREACHABLE);
      EXPECT_EQ(cuts, 3);
      EXPECT_EQ(FarFiles(), (Files{{"a", "2++"}}));
      if (restarts) {
        NewDaemon();
        Open();
      }
      far().hooks = {};
      if (pulls_first) {
        EXPECT_EQ(MustPull().counts.conflicts, 0u);
      }
      MustPush();
      EXPECT_EQ(FarFiles(), (Files{{"a", "2+++"}}));
      EXPECT_EQ(HostFiles(), FarFiles());
      EXPECT_EQ(MustPull().counts.conflicts, 0u);
    }
  }
}

TEST_F(PushTest, WhatIsAskedAfterALostAnswerIsAskedOnce) {
  Agree({{"a", "1"}});
  WriteHost("a", "2");
  bool cut = true;
  far().hooks.after_apply = [&] {
    return std::exchange(cut, false) ? Error(Reason::k_BACKEND_UNREACHABLE, "cut")
                                     : absl::OkStatus();
  };
  const int looks = far().looks;
  MustPush();
  EXPECT_EQ(far().looks, looks + 1);
  WriteHost("a", "3");
  MustPush();
  EXPECT_EQ(far().looks, looks + 1);
}

// Over there lies what was sent before, and whoever starts on it has to know.
TEST_F(PushTest, AFileThatCannotTravelAnyMoreFailsEachPushUntilThatIsMended) {
  const std::vector<std::pair<std::string, std::function<void()>>> ways = {
      {"too big", [&] { WriteHost("d/a", std::string(9, '2')); }},
      {"link",
       [&] {
         fs::remove(Host("d/a"));
         fs::create_symlink("b", Host("d/a"));
       }},
      {"fifo, socket or device",
       [&] {
         fs::remove(Host("d/a"));
         ASSERT_EQ(mkfifo(Host("d/a").c_str(), 0600), 0);
       }},
      {"link",  // of its directory
       [&] {
         fs::rename(Host("d"), Host("moved"));
         fs::create_symlink("moved", Host("d"));
       }},
  };
  for (const auto& [oddity, becomes] : ways) {
    Empty();
    Agree({{"d/a", "1"}, {"b", "1"}}, {.max_file_bytes = 8});
    far().hooks.follows = true;
    bool followed = false;
    becomes();
    WriteHost("b", "2");
    const PushRequest request{.on_follow = [&](std::string) { followed = true; }};
    for (int i = 0; i < 2; ++i) {
      EXPECT_FALSE(manager().Clean()) << oddity;
      EXPECT_EQ(ReasonOf(Push(request).status()), Reason::k_SYNC_FAILED) << oddity;
      EXPECT_EQ(heard_.Of("d/a").why, Why::kOdd);
      EXPECT_EQ(heard_.Of("d/a").fate, Fate::kFailed);
      EXPECT_THAT(heard_.Of("d/a").note, ::testing::HasSubstr(oddity));
    }
    EXPECT_FALSE(followed) << "a command would run on an old file";
    EXPECT_EQ(FarFiles().at("b"), "2") << "the others are sent";
    EXPECT_EQ(FarFiles().at("d/a"), "1");
    EXPECT_EQ(ReasonOf(Push({.tell_odd = true}).status()), Reason::k_SYNC_FAILED);
    heard_.Of("d/a");  // once
    fs::remove(Host("d/a"));
    fs::remove_all(Host("d"));
    MustPush();
    EXPECT_FALSE(FarFiles().contains("d/a"));
    EXPECT_TRUE(manager().Clean());
  }
}

TEST_F(PushTest, WhatNeverWasSentFailsNothing) {
  WriteHost("big", std::string(9, '1'));
  WriteHost("a", "1");
  Open({.max_file_bytes = 8});
  MustPush();
  WriteHost("big", std::string(9, '2'));
  MustPush();
  EXPECT_TRUE(manager().Clean());
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}}));
}

}  // namespace
}  // namespace hermes::sync
