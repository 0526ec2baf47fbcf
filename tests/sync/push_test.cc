// Pushes whose answer or whose token was lost.

#include <filesystem>
#include <utility>

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

}  // namespace
}  // namespace hermes::sync
