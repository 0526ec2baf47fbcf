// Who waits for whom, and for how long: pushes and pulls of one pair, of one host directory, of
// other programs; and wishes that are withdrawn meanwhile.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <thread>

#include "daemon/runtime/event.h"
#include "daemon/runtime/task_group.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/process.h"
#include "tests/sync/python_holder.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != name.npos) continue;
    const std::string stat = Slurp(entry.path() / "stat");
    std::istringstream fields(stat.substr(stat.rfind(')') + 1));
    std::string state;
    pid_t above = 0;
    fields >> state >> above;
    if (above == parent) children.push_back(std::stoi(name));
  }
  return children;
}

// Does something at the first of these phases.
struct AtPhase : public Heard {
  AtPhase(std::string at, std::function<void()> what)
      : phase(std::move(at)), act(std::move(what)) {}
  void OnPhase(std::string_view now) override {
    Heard::OnPhase(now);
    if (now == phase && act) std::exchange(act, nullptr)();
  }
  std::string phase;
  std::function<void()> act;
};

class TurnTest : public SyncStand {
 protected:
  TurnTest() : SyncStand(RealRoot::Where::kMemory) { fs::create_directory(dir_ + "/far2"); }

  Task<void> PullInto(SyncManager* manager, PullRequest request,
                      absl::StatusOr<SyncReport>* report) {
    *report = co_await manager->Pull(std::move(request));
  }
  Task<void> RunAll(std::vector<Task<void>> tasks) {
    TaskGroup group(loop_);
    for (Task<void>& task : tasks) group.Spawn("one of all", std::move(task));
    co_await group.Join();
  }
  // Until all have ended.
  void Await(std::vector<Task<void>> tasks) {
    asio::co_spawn(loop_.executor(), RunAll(std::move(tasks)),
                   [this](const std::exception_ptr&) { loop_.Stop(); });
    loop_.Run();
  }
};

TEST_F(TurnTest, V61TwoSessionsPullIntoOneDirectoryAtOnceAndNoUpdateIsLost) {
  for (int i = 0; i < 20; ++i) WriteHost("f" + std::to_string(i), "1");
  DirTree* first_far = nullptr;
  DirTree* second_far = nullptr;
  const auto first = MakeManager({{}}, "one", &first_far);
  const auto second = MakeManager({{.remote_root = dir_ + "/far2"}}, "two", &second_far);
  ASSERT_TRUE(Run(first->Push({})).ok());
  ASSERT_TRUE(Run(second->Push({})).ok());
  for (int i = 0; i < 20; ++i) {
    const std::string name = "f" + std::to_string(i);
    if (i % 2 == 0 || i < 4) WriteFar(name, "of the first " + name);
    if (i % 2 == 1 || i < 4) Spit(dir_ + "/far2/" + name, "of the second " + name);
  }
  absl::StatusOr<SyncReport> reports[2];
  std::vector<Task<void>> pulls;
  pulls.push_back(PullInto(first.get(), {.id = "one"}, &reports[0]));
  pulls.push_back(PullInto(second.get(), {.id = "two"}, &reports[1]));
  Await(std::move(pulls));
  ASSERT_TRUE(reports[0].ok() && reports[1].ok()) << reports[0].status() << reports[1].status();
  const Files host = HostFiles();
  for (int i = 0; i < 20; ++i) {
    const std::string name = "f" + std::to_string(i);
    const std::string of_first = "of the first " + name;
    const std::string of_second = "of the second " + name;
    if (i < 4) {  // whoever came last has the name, the other one is kept
      EXPECT_TRUE(host.at(name) == of_first || host.at(name) == of_second);
      EXPECT_TRUE(IsKept(host.at(name) == of_first ? of_second : of_first)) << name;
    } else {
      EXPECT_EQ(host.at(name), i % 2 == 0 ? of_first : of_second);
    }
  }
  EXPECT_EQ(reports[0]->counts.conflicts + reports[1]->counts.conflicts, 4u);
}

TEST_F(TurnTest, V61APushWaitsForALandingAndSendsWhatCameMeanwhile) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  std::vector<std::string> order;
  far().hooks.before = [&](std::string_view verb) {
    order.emplace_back(verb);
    return absl::OkStatus();
  };
  AtPhase listener("landing", [&, this] {
    WriteHost("b", "during the landing");
    asio::co_spawn(loop_.executor(), PushWithin(), [&, this](const std::exception_ptr&) {
      order.push_back("pushed");
      loop_.Stop();
    });
  });
  absl::StatusOr<SyncReport> report;
  asio::co_spawn(loop_.executor(),
                 PullInto(&manager(), {.id = "y1", .listener = &listener}, &report),
                 [&](const std::exception_ptr&) { order.push_back("pulled"); });
  loop_.Run();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(order, (std::vector<std::string>{"look", "fetch", "pulled", "apply", "pushed"}));
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}, {"b", "during the landing"}}));
  EXPECT_EQ(FarFiles(), HostFiles());
}

// The look of before the push knows nothing of it, and what it does not know is not deleted.
TEST_F(TurnTest, AFileThatIsPushedDuringTheDownloadIsNotTakenForADeletion) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  int fetches = 0;
  far().hooks.within_fetch = [&, this] {
    WriteHost("new" + std::to_string(++fetches), "1");
    return PushWithin();
  };
  const SyncReport report = MustPull({.id = "y1"});
  EXPECT_EQ(report.counts.conflicts, 0u);
  Files all = {{"a", "2"}, {"b", "1"}};
  for (int i = 1; i <= fetches; ++i) all["new" + std::to_string(i)] = "1";
  EXPECT_EQ(HostFiles(), all);
  EXPECT_EQ(FarFiles(), all);
  for (const SyncEntry& entry : heard_.entries)
    EXPECT_FALSE(entry.effect == Effect::kDelete && entry.fate == Fate::kDone);
}

TEST_F(TurnTest, TheLockOfAnotherProgramThatNeverLetsGoIsToldAndChangesNothing) {
  lock_file_ = dir_ + "/.sync.lock";
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  PythonHolder python(lock_file_);
  ASSERT_TRUE(python.Says('L'));
  AtPhase listener("waiting", [this] { clock_.ahead += std::chrono::hours(1); });
  EXPECT_EQ(ReasonOf(Pull({.listener = &listener}).status()), Reason::k_SYNC_HELD);
  EXPECT_EQ(HostFiles().at("a"), "1");
  EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
  // An undo waits for it as well, a dry run does not.
  EXPECT_TRUE(Pull({.dry_run = true}).ok());
}

TEST_F(TurnTest, AWishThatIsWithdrawnWhileTheLockIsHeldEndsThePull) {
  lock_file_ = dir_ + "/.sync.lock";
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  PythonHolder python(lock_file_);
  ASSERT_TRUE(python.Says('L'));
  const WishPtr wish = std::make_shared<Wish>();
  AtPhase listener("waiting", [&] { wish->Withdraw(); });
  EXPECT_TRUE(absl::IsCancelled(Pull({.wish = wish, .listener = &listener}).status()));
  EXPECT_EQ(HostFiles().at("a"), "1");
  EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
  python.Tell();
  ASSERT_TRUE(python.Says('U'));
  MustPull();
  EXPECT_EQ(HostFiles().at("a"), "2");
}

// Whoever waits for another program has not the turn, so a push goes on meanwhile; and nobody holds
// the lock while they wait for a push.
TEST_F(TurnTest, ALandingThatWaitsForTheLockHoldsUpNoPush) {
  lock_file_ = dir_ + "/.sync.lock";
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  PythonHolder python(lock_file_);
  ASSERT_TRUE(python.Says('L'));
  WriteHost("b", "2");
  AtPhase listener("waiting", [&, this] {
    asio::co_spawn(loop_.executor(), PushWithin(), [&](const std::exception_ptr&) {
      EXPECT_EQ(FarFiles().at("b"), "2");
      python.Tell();
    });
  });
  EXPECT_TRUE(Pull({.listener = &listener}).ok());
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}, {"b", "2"}}));
}

TEST_F(TurnTest, NobodyHoldsTheLockWhileTheFarEndAppliesSomething) {
  lock_file_ = dir_ + "/.sync.lock";
  struct stat root = {};
  ASSERT_EQ(stat(Host("").c_str(), &root), 0);
  const LockRequest request{lock_file_, {{root.st_dev, root.st_ino}}};
  int looks = 0;
  const auto look_at_lock = [&]() -> Task<void> {
    for (int i = 0; i < 5; ++i) {
      co_await clock_.SleepFor(std::chrono::milliseconds(500));
      EXPECT_TRUE(locks_.TryAcquire(request).ok());
      ++looks;
    }
  };
  // The push of another session while a pull comes to its landing.
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  far().hooks.within_apply = look_at_lock;
  far().hooks.within_fetch = [&, this] {
    WriteHost("b", "1");
    asio::co_spawn(loop_.executor(), PushWithin(), [](const std::exception_ptr&) {});
    return Nothing();
  };
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}, {"b", "1"}}));
  EXPECT_EQ(looks, 5);
  // The token of a base that a pull has made.
  Empty();
  WriteFar("a", "1");
  Open({.policy = Policy::kPull});
  far().hooks.within_apply = look_at_lock;
  MustPull();
  EXPECT_EQ(looks, 10);
}

TEST_F(TurnTest, AWishThatIsWithdrawnRightBeforeTheLandingEndsThePull) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  const WishPtr wish = std::make_shared<Wish>();
  far().hooks.within_fetch = [this] {
    WriteHost("new", "so that the host is looked at again");
    return Nothing();
  };
  AtPhase listener("scanning", [&] { wish->Withdraw(); });
  EXPECT_TRUE(absl::IsCancelled(Pull({.wish = wish, .listener = &listener}).status()));
  EXPECT_EQ(listener.act, nullptr);
  EXPECT_EQ(HostFiles().at("a"), "1");
  EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
}

TEST_F(TurnTest, APlaceThatIsDistrustedDuringALandingIsAskedAgain) {
  lock_file_ = dir_ + "/.sync.lock";
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  PythonHolder python(lock_file_);
  ASSERT_TRUE(python.Says('L'));
  AtPhase listener("waiting", [&, this] {
    manager().Distrust();
    python.Tell();
  });
  ASSERT_TRUE(Pull({.listener = &listener}).ok());
  const int before = far().applies;
  MustPush();
  EXPECT_EQ(far().applies, before + 1);
}

// By what the old one answered nothing is known of the new one.
TEST_F(TurnTest, APlaceThatIsReplacedDuringAPushGetsAll) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteHost("a", "2");
  bool replaced = false;
  far().hooks.after_apply = [&, this] {
    if (std::exchange(replaced, true)) return absl::OkStatus();
    for (const auto& entry : std::filesystem::directory_iterator(Far("")))
      std::filesystem::remove_all(entry.path());
    manager().Distrust();
    return absl::OkStatus();
  };
  MustPush();
  EXPECT_EQ(FarFiles(), HostFiles());
}

TEST_F(TurnTest, APlaceThatIsDistrustedDuringALookIsAskedAgain) {
  Agree({{"a", "1"}});
  bool asked = false;
  far().hooks.before = [&, this](std::string_view verb) {
    if (verb == "look" && !std::exchange(asked, true)) manager().Distrust();
    return absl::OkStatus();
  };
  MustPull();
  ASSERT_TRUE(asked);
  const int before = far().applies;
  MustPush();
  EXPECT_EQ(far().applies, before + 1);
}

TEST_F(TurnTest, AnUndoEndsWithItsWish) {
  lock_file_ = dir_ + "/.sync.lock";
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  MustPull({.id = "y1"});
  PythonHolder python(lock_file_);
  ASSERT_TRUE(python.Says('L'));
  const WishPtr wish = std::make_shared<Wish>();
  const auto alarm = clock_.At(clock_.Now() + std::chrono::seconds(5), [&] { wish->Withdraw(); });
  EXPECT_TRUE(absl::IsCancelled(Revert("y1", wish).status()));
  EXPECT_EQ(HostFiles().at("a"), "2");
}

// A stage may hold thousands of files.
TEST_F(TurnTest, AStageThatDoesNotLandIsNotRemovedOnTheLoop) {
  const std::thread::id loop = std::this_thread::get_id();
  FaultFs fs(fs_);
  int removed = 0;
  fs.before = [&](const FsCall& call) {
    if (call.kind != FsCall::Kind::kRemove) return 0;
    ++removed;
    EXPECT_NE(std::this_thread::get_id(), loop);
    return 0;
  };
  landing_fs_ = &fs;
  NewDaemon();
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  const WishPtr wish = std::make_shared<Wish>();
  far().hooks.within_fetch = [&] {
    wish->Withdraw();
    return Nothing();
  };
  EXPECT_TRUE(absl::IsCancelled(Pull({.wish = wish}).status()));
  EXPECT_GT(removed, 0);
  EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
}

TEST_F(TurnTest, AWishThatIsWithdrawnDuringTheDownloadEndsThePull) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", std::string(1 << 20, 'x'));
  WriteFar("b", "2");
  const WishPtr wish = std::make_shared<Wish>();
  far().hooks.within_fetch = [&] {
    wish->Withdraw();
    return Nothing();
  };
  EXPECT_TRUE(absl::IsCancelled(Pull({.wish = wish}).status()));
  EXPECT_FALSE(manager().suspect());
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "1"}}));
  EXPECT_TRUE(FilesBelow(Host(".hermesd-stage")).empty());
  EXPECT_TRUE(FilesBelow(dir_ + "/quarantine").empty());
  far().hooks = {};
  MustPull();
  EXPECT_EQ(HostFiles(), FarFiles());
}

// As whoever ends the whole service does to what it runs.
TEST_F(TurnTest, AParserThatIsKilledWithItsDaemonIsNoLieOfThePlace) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  const WishPtr wish = std::make_shared<Wish>();
  far().hooks.within_fetch = [&] {
    const std::vector<pid_t> parsers = ChildrenOf(getpid());
    EXPECT_EQ(parsers.size(), 1u);
    for (const pid_t parser : parsers) EXPECT_EQ(kill(parser, SIGKILL), 0);
    wish->Withdraw();
    return Nothing();
  };
  const auto report = Pull({.wish = wish});
  EXPECT_TRUE(absl::IsCancelled(report.status())) << report.status();
  EXPECT_FALSE(manager().suspect());
  EXPECT_EQ(HostFiles().at("a"), "1");
}

TEST_F(TurnTest, AWishThatIsWithdrawnWithTheLastTransportIsCancelled) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  const WishPtr wish = std::make_shared<Wish>();
  int fetches = 0;
  far().hooks.before = [&](std::string_view verb) {
    if (verb != "fetch") return absl::OkStatus();
    if (++fetches == kSyncAttempts) wish->Withdraw();
    return Error(Reason::k_BACKEND_UNREACHABLE, "cut");
  };
  EXPECT_TRUE(absl::IsCancelled(Pull({.wish = wish}).status()));
  EXPECT_EQ(fetches, kSyncAttempts);
}

// A far end that says nothing more ends its call for that wish, and only so.
TEST_F(TurnTest, TheFarEndHearsOfAWishThatIsWithdrawn) {
  Agree({{"a", "1"}});
  WriteHost("a", "2");
  const WishPtr wish = std::make_shared<Wish>();
  far().hooks.before = [&](std::string_view) {
    EXPECT_EQ(far().wish, wish);
    far().wish->Withdraw();
    return absl::CancelledError("nobody waits");
  };
  EXPECT_TRUE(absl::IsCancelled(Push({.wish = wish}).status()));
  EXPECT_TRUE(absl::IsCancelled(Pull({.wish = wish}).status()));
  EXPECT_EQ(far().applies + far().looks, 3);  // the first push's, and one each
  EXPECT_FALSE(manager().Clean());
}

// What nobody reads any more ends, also where what comes gives no occasion to say so.
TEST_F(TurnTest, AFarEndThatHasLiedIsLetGoBeforeItSaysMore) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  far().hooks.stream = std::string(1024, 'x');  // no archive
  far().hooks.behind_stream = [this](WishPtr wish) -> Task<void> {
    Event heard(loop_);
    const Wish::Ear ear(wish, [&heard] { heard.NotifyAll(); });
    while (!IsWithdrawn(wish)) co_await heard.Wait();
  };
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_SYNC_FAILED);
  EXPECT_EQ(HostFiles().at("a"), "1");
}

TEST_F(TurnTest, AWishThatIsWithdrawnBeforeAPushSendsNothing) {
  Agree({{"a", "1"}});
  WriteHost("a", "2");
  const WishPtr wish = std::make_shared<Wish>();
  wish->Withdraw();
  EXPECT_TRUE(absl::IsCancelled(Push({.wish = wish}).status()));
  EXPECT_EQ(FarFiles().at("a"), "1");
  EXPECT_FALSE(manager().Clean());
}

TEST_F(TurnTest, AWishThatIsWithdrawnBetweenAttemptsEndsBoth) {
  Agree({{"a", "1"}});
  WriteHost("a", "2");
  const WishPtr wish = std::make_shared<Wish>();
  int asked = 0;
  far().hooks.before = [&](std::string_view) {
    ++asked;
    wish->Withdraw();
    return Error(Reason::k_BACKEND_UNREACHABLE, "cut");
  };
  EXPECT_FALSE(Push({.wish = wish}).ok());
  EXPECT_EQ(asked, 1);
  EXPECT_FALSE(Pull({.wish = wish}).ok());
  EXPECT_EQ(asked, 2);
}

// Of two mounts one takes its pull back and the other cannot: that is said, and what could go back
// has gone.
TEST_F(TurnTest, AnUndoThatOneMountRefusesIsNoSuccess) {
  std::vector<Mount> mounts(2);
  for (int i = 0; i < 2; ++i) {
    const std::string name = i == 0 ? "/one" : "/two";
    fs::create_directory(Host(name.substr(1)));
    fs::create_directory(Far(name.substr(1)));
    mounts[i].id = name.substr(1);
    mounts[i].host_root = dir_ + "/host" + name;
    mounts[i].remote_root = dir_ + "/far" + name;
  }
  manager_ = MakeManager(mounts, "session");
  WriteFar("one/a", "1");
  WriteFar("two/a", "1");
  MustPull({.id = "y1"});
  EXPECT_EQ(HostFiles().size(), 2u);
  const std::string journal = Host("two/.hermesd-stage/y1.1/journal");
  const std::string whole = Slurp(journal);
  std::string damaged = whole;
  damaged[20] = static_cast<char>(~damaged[20]);
  Spit(journal, damaged);
  EXPECT_EQ(ReasonOf(Revert("y1").status()), Reason::k_SYNC_FAILED);
  EXPECT_EQ(HostFiles(), (Files{{"two/a", "1"}}));
  Spit(journal, whole);
  EXPECT_TRUE(Revert("y1").ok());
  EXPECT_TRUE(HostFiles().empty());
  EXPECT_TRUE(Revert("y1").ok()) << "as often as one likes";
}

}  // namespace
}  // namespace hermes::sync
