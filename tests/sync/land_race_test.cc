// The host edits a file between any two calls of a landing: in place, by a rename over it, by
// deleting it, or by putting a directory there. Its edit is never lost and never undone.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "daemon/runtime/check.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/land_stand.h"

namespace hermes::sync {
namespace {

namespace files = std::filesystem;

enum class Edit { kInPlace, kRenameOver, kUnlink, kDirectory, kLink };
constexpr Edit kEdits[] = {Edit::kInPlace, Edit::kRenameOver, Edit::kUnlink, Edit::kDirectory,
                           Edit::kLink};
enum class Lacks { kNothing, kExchange, kExchangeAndNoReplace };

const TestTree kBefore = {
    {"a-deleted", {"to be deleted"}}, {"dir/replaced", {"old"}}, {"replaced", {"older"}}};
const TestTree kAfter = {{"dir/replaced", {"new"}}, {"replaced", {"newer"}}, {"created", {"made"}}};

void WriteText(const std::string& path, const std::string& text) {
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  close(fd);
}

// What an editor, a build or a shell does, with the calls that they use. False: there was nothing
// that it could do it to.
bool DoEdit(const RealRoot& root, Edit edit, const std::string& name, const std::string& text) {
  const std::string path = root.Path(name);
  const std::string other = root.Path("other-" + text);
  switch (edit) {
    case Edit::kInPlace:
      if (files::is_directory(path)) return false;
      WriteText(path, text);
      return true;
    case Edit::kRenameOver:
      WriteText(other, text);
      CHECK(rename(other.c_str(), path.c_str()) == 0);
      return true;
    case Edit::kUnlink:
      return unlink(path.c_str()) == 0;
    case Edit::kDirectory:
      unlink(path.c_str());
      CHECK(mkdir(path.c_str(), 0755) == 0);
      WriteText(path + "/inside", text);
      return true;
    case Edit::kLink:
      unlink(path.c_str());
      CHECK(symlink(("to-" + text).c_str(), path.c_str()) == 0);
      return true;
  }
  return false;
}

// True if the name shows what that edit made of it.
bool Shows(const RealRoot& root, Edit edit, const std::string& name, const std::string& text) {
  const std::string path = root.Path(name);
  const auto holds = [&](const std::string& file) {
    std::ifstream in(file);
    std::string got(std::istreambuf_iterator<char>(in), {});
    return files::is_regular_file(files::symlink_status(file)) && got == text;
  };
  switch (edit) {
    case Edit::kInPlace:
    case Edit::kRenameOver:
      return holds(path);
    case Edit::kUnlink:
      return !files::exists(files::symlink_status(path));
    case Edit::kDirectory:
      return holds(path + "/inside");
    case Edit::kLink:
      return files::is_symlink(path) && files::read_symlink(path) == "to-" + text;
  }
  return false;
}

bool KeptSomewhere(const RealRoot& root, const std::string& text) {
  for (const auto& entry : files::recursive_directory_iterator(root.path())) {
    if (entry.is_symlink()) {
      if (files::read_symlink(entry.path()) == "to-" + text) return true;
    } else if (entry.is_regular_file()) {
      std::ifstream in(entry.path());
      if (std::string(std::istreambuf_iterator<char>(in), {}) == text) return true;
    }
  }
  return false;
}

struct Strike {
  int call;  // before the how-manieth call of the landing
  Edit edit;
  std::string name;
  std::string text;
  bool struck = false;
};

class Race {
 public:
  Race(Lacks lacks, std::vector<Strike> strikes) : strikes_(std::move(strikes)) {
    PutTree(root_.fs(), root_.fd(), kBefore);
    FaultFs fs(root_.fs());
    fs.skip_syncs = true;
    fs.before = [this, lacks](const FsCall& call) {
      int rc = 0;
      if (call.kind == FsCall::Kind::kExchange && lacks != Lacks::kNothing) rc = -EINVAL;
      if (call.no_replace && lacks == Lacks::kExchangeAndNoReplace) rc = -EINVAL;
      for (Strike& strike : strikes_) {
        if (strike.call != calls_) continue;
        strike.struck = DoEdit(root_, strike.edit, strike.name, strike.text);
      }
      ++calls_;
      return rc;
    };
    auto report = LandAll(fs, root_.fd(), kBefore, kAfter, "s1");
    EXPECT_TRUE(report.ok()) << report.status();
    if (report.ok()) report_ = *std::move(report);
  }

  // The last edit of a name is what the name shows; no earlier one is gone without a trace, unless
  // the host's own later edit of the name did away with it.
  void ExpectNothingLost(bool earlier_too) {
    for (size_t i = 0; i < strikes_.size(); ++i) {
      const Strike& strike = strikes_[i];
      if (!strike.struck) continue;
      bool last = i + 1 == strikes_.size();
      if (last) {
        EXPECT_TRUE(Shows(root_, strike.edit, strike.name, strike.text) ||
                    (earlier_too && KeptSomewhere(root_, strike.text)))
            << strike.name << " does not show " << strike.text;
      }
    }
    ExpectOthersLanded();
  }

  int calls() const { return calls_; }
  const LandReport& report() const { return report_; }
  RealRoot& root() { return root_; }

 private:
  // What was not edited is in place, and for each replaced file the old version is kept.
  void ExpectOthersLanded() {
    TestTree tree = root_.tree();
    for (const LandResult& result : report_.results) {
      const std::string& path = result.path.str();
      bool edited = std::any_of(strikes_.begin(), strikes_.end(),
                                [&](const Strike& strike) { return strike.name == path; });
      if (edited) continue;
      EXPECT_EQ(result.outcome, Outcome::kDone) << path << " " << result.why;
      auto want = kAfter.find(path);
      EXPECT_EQ(tree.contains(path) ? tree.at(path).text : "",
                want == kAfter.end() ? "" : want->second.text);
    }
    for (const auto& [path, file] : kBefore) {
      EXPECT_TRUE(ResultOf(report_, path).outcome != Outcome::kDone ||
                  KeptSomewhere(root_, file.text))
          << path << ": the old version is not kept";
    }
  }

  RealRoot root_;
  std::vector<Strike> strikes_;
  int calls_ = 0;
  LandReport report_;
};

const char* const kNames[] = {"a-deleted", "dir/replaced", "replaced", "created"};

std::string TraceOf(Lacks lacks, const Strike& strike) {
  return "lacks " + std::to_string(static_cast<int>(lacks)) + " edit " +
         std::to_string(static_cast<int>(strike.edit)) + " of " + strike.name + " before call " +
         std::to_string(strike.call);
}

int CallsOf(Lacks lacks) { return Race(lacks, {}).calls(); }

TEST(LandRaceTest, AnEditBetweenAnyTwoCallsStays) {
  const bool deep = std::getenv("HERMES_DEEP") != nullptr;
  constexpr unsigned kOneIn = 6;  // of the points, in the suite
  std::mt19937 random(7);
  int races = 0;
  for (Lacks lacks : {Lacks::kNothing, Lacks::kExchange, Lacks::kExchangeAndNoReplace}) {
    const int calls = CallsOf(lacks);
    for (int call = 0; call < calls + 4; ++call) {
      for (Edit edit : kEdits) {
        for (const char* name : kNames) {
          if (!deep && random() % kOneIn != 0) continue;
          Strike strike{call, edit, name, "edit"};
          SCOPED_TRACE(TraceOf(lacks, strike));
          Race race(lacks, {strike});
          race.ExpectNothingLost(false);
          ++races;
          if (::testing::Test::HasFailure()) return;
        }
      }
    }
  }
  std::printf("%d races\n", races);
}

// A second edit while the first is being given back to the host.
TEST(LandRaceTest, TwoEditsOfOneFileKeepTheNewest) {
  const int pairs = std::getenv("HERMES_DEEP") != nullptr ? 4000 : 200;
  std::mt19937 random(11);
  for (int i = 0; i < pairs && !::testing::Test::HasFailure(); ++i) {
    Lacks lacks = static_cast<Lacks>(random() % 3);
    static const int calls[] = {CallsOf(Lacks::kNothing), CallsOf(Lacks::kExchange),
                                CallsOf(Lacks::kExchangeAndNoReplace)};
    int first = static_cast<int>(random() % static_cast<unsigned>(calls[static_cast<int>(lacks)]));
    int second = first + 1 + static_cast<int>(random() % 16);
    const char* name = kNames[random() % 4];
    Strike one{first, kEdits[random() % 2], name, "first"};
    // What comes and goes again while the name is free was never there.
    bool may_unlink = lacks == Lacks::kNothing && name != std::string("created");
    Strike two{second, kEdits[random() % (may_unlink ? 3 : 2)], name, "second"};
    SCOPED_TRACE(TraceOf(lacks, one) + ", then " + TraceOf(lacks, two));
    Race race(lacks, {one, two});
    race.ExpectNothingLost(two.edit != Edit::kUnlink);
  }
}

// A writer that opened the old file before it was moved aside, and writes when it is.
TEST(LandRaceTest, ALateWriterOfTheOldFileGetsItsNameBack) {
  for (int at = 0;; ++at) {
    SCOPED_TRACE(at);
    RealRoot root;
    PutTree(root.fs(), root.fd(), kBefore);
    int writer = open(root.Path("dir/replaced").c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(writer, 0);
    FaultFs fs(root.fs());
    fs.skip_syncs = true;
    int effects = 0;
    bool wrote = false;
    fs.before = [&](const FsCall& call) {
      if (call.kind != FsCall::Kind::kSync && call.kind != FsCall::Kind::kExchange) return 0;
      if (effects++ == at) {
        wrote = true;
        CHECK(pwrite(writer, "late, and longer", 16, 0) == 16);
      }
      return 0;
    };
    auto report = LandAll(fs, root.fd(), kBefore, kAfter, "s1");
    close(writer);
    ASSERT_TRUE(report.ok());
    if (!wrote) break;
    EXPECT_TRUE(KeptSomewhere(root, "late, and longer"));
    bool in_time = ResultOf(*report, "dir/replaced").outcome == Outcome::kHostChanged;
    EXPECT_EQ(root.tree().at("dir/replaced").text, in_time ? "late, and longer" : "new");
    // Before the sync, before its exchange, and before the exchange of the next file.
    if (at < 3) EXPECT_TRUE(in_time);
  }
}

}  // namespace
}  // namespace hermes::sync
