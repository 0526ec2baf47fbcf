// Random histories of a host, a far side and their base under all policies. Each plan is compared
// with an oracle that looks outcomes up instead of deriving them, then carried out, sometimes only
// in part; no version that somebody wrote may be lost on the way.

#include <array>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/random.h"
#include "sync/plan.h"

namespace hermes::sync {
namespace {

constexpr int kHistories = 100'000;
constexpr int kDeepHistories = 1'000'000;
constexpr int kShards = 10;  // each a test of its own

using Tree = std::map<std::string, int>;  // name -> version; the model's own words

// What an oracle may answer for one path.
enum Outcome : char {
  kNothing = '.',
  kAgree = 'g',
  kTake = 't',
  kAside = 's',
  kKeep = 'k',
  kLeave = 'l',
  kDelete = 'd',
};

// Base, host, remote as letters: '-' absent, equal letters are equal versions. Then the outcomes
// under conflict remote, host, both, abort; first where a pull writes the host, then of a push
// mount ('d': a deletion, which has rules of its own).
struct Row {
  std::string_view pattern, writing, pushing;
};
constexpr std::array<Row, 14> kRows = {{{"aaa", "....", "...."},
                                        {"aba", "....", "...."},
                                        {"a-a", "....", "...."},
                                        {"-a-", "....", "...."},
                                        {"abb", "gggg", "gggg"},
                                        {"a--", "gggg", "gggg"},
                                        {"-aa", "gggg", "gggg"},
                                        {"aa-", "dddd", "llll"},
                                        {"aab", "tttt", "llll"},
                                        {"--a", "tttt", "llll"},
                                        {"ab-", "gggg", "gggg"},
                                        {"a-b", "tktl", "lkll"},
                                        {"abc", "tksl", "lkll"},
                                        {"-ab", "tksl", "lkll"}}};

int At(const Tree& tree, const std::string& name) {
  const auto found = tree.find(name);
  return found == tree.end() ? 0 : found->second;
}

bool Below(const std::string& name, const std::string& above) {
  return name.size() > above.size() && name.compare(0, above.size() + 1, above + "/") == 0;
}

struct Case {
  Mount mount;
  Tree base, host, remote;
  std::set<std::string> host_odd, remote_odd;
  bool approve = false;
};

bool OddAt(const std::set<std::string>& odd, const std::string& name) {
  for (const std::string& o : odd)
    if (o == name || Below(o, name) || Below(name, o)) return true;
  return false;
}

char LookUp(const Case& c, const std::string& name) {
  if (OddAt(c.remote_odd, name)) return kLeave;
  std::string pattern;
  std::map<int, char> letters = {{0, '-'}};
  for (const Tree* tree : {&c.base, &c.host, &c.remote})
    pattern +=
        letters.emplace(At(*tree, name), static_cast<char>('a' + letters.size() - 1)).first->second;
  // A first version "a" on the host or far side alone is "a", whatever is missing before it.
  for (const Row& row : kRows) {
    if (row.pattern != pattern) continue;
    const auto conflict = static_cast<size_t>(c.mount.conflict);
    const char outcome = (c.mount.policy == Policy::kPush ? row.pushing : row.writing)[conflict];
    return outcome != kNothing && OddAt(c.host_odd, name) ? kLeave : outcome;
  }
  ADD_FAILURE() << "no row for " << pattern;
  return kLeave;
}

using Outcomes = std::map<std::string, char>;

// What the plan should be: name -> outcome, without those of nothing.
Outcomes Oracle(const Case& c) {
  Outcomes outcomes;
  size_t deletions = 0;
  for (const Tree* tree : {&c.base, &c.host, &c.remote})
    for (const auto& [name, version] : *tree) outcomes[name] = LookUp(c, name);
  for (const auto& [name, outcome] : outcomes) deletions += outcome == kDelete ? 1 : 0;
  const bool held =
      !c.approve && (c.remote.empty() || (deletions > 10 && deletions * 4 > c.base.size()));
  for (auto& [name, outcome] : outcomes) {
    if (outcome != kDelete) continue;
    if (c.mount.deletes == DeletePolicy::kNever) outcome = kNothing;
    if (c.mount.deletes == DeletePolicy::kReport || (held && outcome == kDelete)) outcome = kLeave;
  }
  for (bool settled = false; !settled;) {  // no file may come to lie below another one
    settled = true;
    std::set<std::string> after;
    for (const auto& [name, outcome] : outcomes) {
      if (outcome == kTake || (At(c.host, name) != 0 && outcome != kDelete)) after.insert(name);
    }
    for (const std::string& top : after) {
      bool clash = false;
      for (const std::string& name : after) clash = clash || Below(name, top);
      for (auto& [name, outcome] : outcomes) {
        const bool moves = outcome == kTake || outcome == kDelete || outcome == kAside ||
                           outcome == kKeep ||
                           (outcome == kAgree && At(c.remote, name) == 0 && At(c.host, name) != 0);
        if (!clash || !moves || (name != top && !Below(name, top))) continue;
        outcome = kLeave;
        settled = false;
      }
    }
  }
  std::erase_if(outcomes, [](const auto& entry) { return entry.second == kNothing; });
  return outcomes;
}

// Versions as Content: odd numbers are executable, with the bytes of the even one below. So
// versions may differ by executability alone.
MaybeContent ContentOf(int version) {
  if (version == 0) return std::nullopt;
  Content content;
  content.digest.bytes[0] = static_cast<uint8_t>(version / 2 % 256);
  content.digest.bytes[1] = static_cast<uint8_t>(version / 512);
  content.executable = version % 2 == 1;
  return content;
}

int VersionOf(const MaybeContent& content) {
  if (!content) return 0;
  const int half = content->digest.bytes[0] + 256 * content->digest.bytes[1];
  return half * 2 + (content->executable ? 1 : 0);
}

FileMap FilesOf(const Tree& tree, const std::set<std::string>& odd) {
  FileMap files;
  for (const auto& [name, version] : tree)
    if (!OddAt(odd, name)) files.emplace(*RelPath::Parse(name), *ContentOf(version));
  return files;
}

Manifest ManifestOf(const Tree& tree, const std::set<std::string>& odd) {
  Manifest manifest{FilesOf(tree, odd), {}};
  for (const std::string& name : odd) manifest.oddities[name] = Oddity::kSpecial;
  return manifest;
}

class History {
 public:
  explicit History(uint64_t seed) : random_(seed) {
    static constexpr Policy kPolicies[] = {Policy::kTwoWay, Policy::kTwoWay, Policy::kPull,
                                           Policy::kPush};
    mount_.policy = kPolicies[random_.Below(4)];
    mount_.conflict = static_cast<ConflictPolicy>(random_.Below(4));
    mount_.deletes =
        random_.Below(3) ? DeletePolicy::kGuarded : static_cast<DeletePolicy>(random_.Below(3));
    if (!mount_.WritesHost() && mount_.conflict == ConflictPolicy::kBoth)
      mount_.conflict = ConflictPolicy::kRemote;
  }

  void Run() {
    for (uint64_t rounds = 2 + random_.Below(3); rounds > 0 && !::testing::Test::HasFailure();
         --rounds) {
      for (uint64_t edits = random_.Below(5); edits > 0; --edits) Edit(&host_);
      for (uint64_t edits = random_.Below(5); edits > 0; --edits) Edit(&remote_);
      if (random_.Below(12) == 0) Recreate();
      const bool rough = random_.Below(3) == 0;  // odd files, and plans carried out in part
      if (random_.Below(4) != 0) Pull(rough);
      if (random_.Below(4) != 0) Push(rough);
    }
    Settle();
  }

 private:
  static constexpr std::array<const char*, 9> kNames = {"a",   "a/x", "a/x/y", "a-b", "b",
                                                        "c.d", "d/e", "d/f",   "d"};

  std::string Name() { return kNames[random_.Below(kNames.size())]; }

  // What a person or program does to its own tree; overwriting loses what they overwrite.
  void Edit(Tree* tree) {
    const std::string name = Name();
    if (random_.Below(3) == 0) {
      tree->erase(name);
      return;
    }
    std::erase_if(*tree, [&name](const auto& entry) {
      return Below(entry.first, name) || Below(name, entry.first);
    });
    // Mostly a version that never was, sometimes one that another tree has or had.
    const int old = At(*std::array{&host_, &remote_, &base_}[random_.Below(3)], name);
    (*tree)[name] = old != 0 && random_.Below(4) == 0 ? old : next_version_++;
  }

  // Another sandbox under the same name: empty, and without our token.
  void Recreate() {
    remote_.clear();
    base_.clear();
  }

  std::set<std::string> SomeOdd(bool rough) {
    std::set<std::string> odd;
    if (rough && random_.Below(2) == 0) odd.insert(Name());
    return odd;
  }

  void Pull(bool rough) {
    Case c{mount_, base_, host_, remote_, SomeOdd(rough), SomeOdd(rough), random_.Below(2) == 0};
    // What is odd now was, so the model has it, replaced for as long as the plan is made.
    const Manifest host = ManifestOf(c.host, c.host_odd);
    const Manifest remote = ManifestOf(c.remote, c.remote_odd);
    std::erase_if(c.host, [&c](const auto& e) { return OddAt(c.host_odd, e.first); });
    std::erase_if(c.remote, [&c](const auto& e) { return OddAt(c.remote_odd, e.first); });
    const FileMap base = FilesOf(base_, {});
    const std::vector<Action> actions = PlanPull({.mount = mount_,
                                                  .ignore = ignore_,
                                                  .base = base,
                                                  .host = host,
                                                  .remote = remote,
                                                  .approve_deletes = c.approve,
                                                  .conflict_tag = "s-T"});
    Outcomes planned;
    for (const Action& action : actions) planned[action.path.str()] = OutcomeOf(action);
    ASSERT_EQ(planned, Oracle(c));
    const Tree base_before = base_;
    const Tree host_before = host_;
    const Tree remote_before = remote_;
    for (const Action& action : actions) {
      if (!rough || random_.Below(5) != 0) Do(action);
    }
    ASSERT_EQ(remote_, remote_before);
    if (!mount_.WritesHost()) {
      ASSERT_EQ(host_, host_before);
    }
    CheckNothingLost(base_before, host_before, remote_before);
  }

  static char OutcomeOf(const Action& action) {
    switch (action.verb) {
      case Verb::kAgree:
        return kAgree;
      case Verb::kTake:
        return action.remote ? kTake : kDelete;
      case Verb::kTakeAside:
        return kAside;
      case Verb::kKeepRemote:
        return kKeep;
      case Verb::kLeave:
        break;
    }
    return kLeave;
  }

  // As landing does it: only onto what was planned with, and only if the name is free.
  void Do(const Action& action) {
    const std::string& name = action.path.str();
    if (action.verb == Verb::kLeave) return;
    if (action.verb == Verb::kTake) {
      ASSERT_EQ(At(host_, name), VersionOf(action.host));
      if (!Put(&host_, name, VersionOf(action.remote))) return;
      if (action.KeepsHost()) undo_.insert(VersionOf(action.host));
    }
    if (action.verb == Verb::kTakeAside) {
      ASSERT_EQ(At(host_, action.aside->str()), 0);
      if (!Put(&host_, action.aside->str(), VersionOf(action.remote))) return;
    }
    if (action.verb == Verb::kKeepRemote) undo_.insert(VersionOf(action.remote));
    Set(&base_, name, VersionOf(action.remote));
  }

  // False where a file or directory is in the way.
  static bool Put(Tree* tree, const std::string& name, int version) {
    for (const auto& [other, content] : *tree) {
      if (version != 0 && (Below(other, name) || Below(name, other))) return false;
    }
    Set(tree, name, version);
    return true;
  }

  static void Set(Tree* tree, const std::string& name, int version) {
    if (version == 0) tree->erase(name);
    if (version != 0) (*tree)[name] = version;
  }

  void Push(bool rough) {
    const std::set<std::string> odd = SomeOdd(rough);
    const std::vector<RemoteChange> changes =
        PlanPush(mount_, ignore_, FilesOf(base_, {}), ManifestOf(host_, odd));
    const auto stale = StaleOnFarSide(mount_, ignore_, FilesOf(base_, {}), ManifestOf(host_, odd));
    for (const auto& [name, version] : base_) {
      ASSERT_EQ(stale.contains(name), mount_.WritesRemote() && OddAt(odd, name));
    }
    std::set<std::string> planned;
    for (const RemoteChange& change : changes) {
      planned.insert(change.path.str());
      ASSERT_EQ(VersionOf(change.expected), At(base_, change.path.str()));
      ASSERT_EQ(VersionOf(change.wanted), At(host_, change.path.str()));
    }
    for (const Tree* tree : {&base_, &host_}) {
      for (const auto& [name, version] : *tree) {
        const bool differs = At(base_, name) != At(host_, name);
        ASSERT_EQ(planned.contains(name), differs && mount_.WritesRemote() && !OddAt(odd, name));
      }
    }
    const Tree base_before = base_;
    const Tree host_before = host_;
    const Tree remote_before = remote_;
    for (const RemoteChange& change : changes) {
      if (!rough || random_.Below(5) != 0) Do(change);
    }
    ASSERT_EQ(host_, host_before);
    CheckNothingLost(base_before, host_before, remote_before);
  }

  // As the far side does it.
  void Do(const RemoteChange& change) {
    const std::string& name = change.path.str();
    const int now = At(remote_, name);
    const int wanted = VersionOf(change.wanted);
    if (now != VersionOf(change.expected) && now != wanted && now != 0) return;
    if (Put(&remote_, name, wanted)) Set(&base_, name, wanted);
  }

  // Everything on either side that was more than an old agreement still is somewhere.
  void CheckNothingLost(const Tree& base_before, const Tree& host_before,
                        const Tree& remote_before) {
    for (const Tree* before : {&host_before, &remote_before}) {
      for (const auto& [name, version] : *before) {
        bool found = At(base_before, name) == version || At(host_, name) == version ||
                     At(remote_, name) == version || undo_.contains(version);
        for (const auto& [other, content] : host_)
          found = found || (content == version && other.find(".conflict-") != other.npos);
        ASSERT_TRUE(found) << name << " version " << version << " is lost";
      }
    }
  }

  // Once nobody edits any more, some rounds bring all that may agree to agree.
  void Settle() {
    for (int round = 0; round < 4 && !::testing::Test::HasFailure(); ++round) {
      Pull(false);
      Push(false);
    }
    if (::testing::Test::HasFailure()) return;
    const std::vector<Action> rest = PlanPull({.mount = mount_,
                                               .ignore = ignore_,
                                               .base = FilesOf(base_, {}),
                                               .host = ManifestOf(host_, {}),
                                               .remote = ManifestOf(remote_, {}),
                                               .conflict_tag = "s-T"});
    for (const Action& action : rest) {
      if (action.why != Why::kHeld && action.why != Why::kTree) {
        ASSERT_EQ(action.verb, Verb::kLeave) << action.path.str();
      }
    }
    if (!rest.empty() || mount_.policy != Policy::kTwoWay) return;
    if (mount_.deletes == DeletePolicy::kNever) return;  // they may differ, and nothing says so
    ASSERT_EQ(host_, remote_);
    ASSERT_EQ(host_, base_);
  }

  SeededRandom random_;
  Mount mount_;
  const IgnoreList ignore_;
  Tree base_, host_, remote_;
  int next_version_ = 2;
  std::set<int> undo_;
};

class PlanModelTest : public ::testing::TestWithParam<int> {};

TEST_P(PlanModelTest, EveryHistoryGoesAsTheOracleSaysAndLosesNothing) {
  const int all = std::getenv("HERMES_DEEP") != nullptr ? kDeepHistories : kHistories;
  for (int seed = GetParam(); seed < all; seed += kShards) {
    History(static_cast<uint64_t>(seed)).Run();
    ASSERT_FALSE(HasFailure()) << "history " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, PlanModelTest, ::testing::Range(0, kShards));

}  // namespace
}  // namespace hermes::sync
