#include "sync/plan.h"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace hermes::sync {
namespace {

RelPath Path(std::string_view text) { return *RelPath::Parse(text); }
Content Bytes(std::string_view bytes) { return {DigestOf(bytes), bytes.size(), false}; }

// "a=1 d/x=2": names and what they hold.
FileMap Files(std::string_view text) {
  FileMap files;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    files.emplace(Path(word.substr(0, word.find('='))), Bytes(word.substr(word.find('=') + 1)));
  }
  return files;
}

struct World {
  Mount mount = {};
  FileMap base = {};
  Manifest host = {};
  Manifest remote = {};
  IgnoreList ignore = {};
  bool approve = false;

  std::vector<Action> Pull() const {
    return PlanPull({.mount = mount,
                     .ignore = ignore,
                     .base = base,
                     .host = host,
                     .remote = remote,
                     .approve_deletes = approve,
                     .conflict_tag = "s-T"});
  }
  std::vector<RemoteChange> Push() const { return PlanPush(mount, ignore, base, host); }
};

World Trees(std::string_view base, std::string_view host, std::string_view remote) {
  return {.base = Files(base), .host = {Files(host), {}}, .remote = {Files(remote), {}}};
}

std::string Show(const Action& action) {
  static constexpr const char* kVerbs[] = {"agree", "take", "aside", "keep", "leave"};
  static constexpr const char* kWhys[] = {"same",       "remote changed", "host stands", "conflict",
                                          "held",       "not deleted",    "push only",   "odd",
                                          "tree clash", "denied"};
  std::string text = action.path.str() + ": " + kVerbs[static_cast<int>(action.verb)] + " (" +
                     kWhys[static_cast<int>(action.why)] + ")";
  if (action.aside) text += " as " + action.aside->str();
  if (action.KeepsHost()) text += ", host kept";
  return text;
}

std::string Show(const std::vector<Action>& actions) {
  std::string text;
  for (const Action& action : actions) text += (text.empty() ? "" : "; ") + Show(action);
  return text;
}

std::string Show(const std::vector<RemoteChange>& changes) {
  std::string text;
  for (const RemoteChange& change : changes) {
    text += (text.empty() ? "" : "; ") + std::string(change.wanted ? "put " : "remove ");
    text += change.path.str() + (change.expected ? "" : " new");
  }
  return text;
}

TEST(PlanTest, EqualTreesNeedNothing) {
  const World world = Trees("a=1 b=2", "a=1 b=2", "a=1 b=2");
  EXPECT_EQ(Show(world.Pull()), "");
  EXPECT_EQ(Show(world.Push()), "");
}

TEST(PlanTest, TakesWhatOnlyTheRemoteChanged) {
  EXPECT_EQ(Show(Trees("a=1 b=1", "a=1 b=1", "a=2 b=1 c=1").Pull()),
            "a: take (remote changed); c: take (remote changed)");
  EXPECT_EQ(Show(Trees("a=1 b=1", "a=1 b=1", "b=1").Pull()), "a: take (remote changed)");
}

TEST(PlanTest, PushesWhatOnlyTheHostChanged) {
  const World world = Trees("a=1 b=1 d/x=1", "a=2 c=1 b=1", "a=1 b=1 d/x=1");
  EXPECT_EQ(Show(world.Pull()), "");
  EXPECT_EQ(Show(world.Push()), "remove d/x; put a; put c new");
  EXPECT_EQ(world.Push()[1].expected, Bytes("1"));
  EXPECT_EQ(world.Push()[1].wanted, Bytes("2"));
}

TEST(PlanTest, SameChangeOnBothSidesMovesOnlyTheBase) {
  EXPECT_EQ(Show(Trees("a=1 b=1", "a=2 c=3", "a=2 c=3").Pull()),
            "a: agree (same); b: agree (same); c: agree (same)");
}

TEST(PlanTest, AChangeBeatsADeletion) {
  const World world = Trees("a=1 b=1", "a=2 b=1", "b=1");
  EXPECT_EQ(Show(world.Pull()), "a: agree (host stands)");
}

TEST(PlanTest, ConflictsGoByThePolicyAndKeepTheLoser) {
  World world = Trees("a=1 b=1", "a=2", "a=3 b=2");
  EXPECT_EQ(Show(world.Pull()), "a: take (conflict), host kept; b: take (conflict)");
  world.mount.conflict = ConflictPolicy::kHost;
  EXPECT_EQ(Show(world.Pull()), "a: keep (conflict); b: keep (conflict)");
  world.mount.conflict = ConflictPolicy::kBoth;
  EXPECT_EQ(Show(world.Pull()), "a: aside (conflict) as a.conflict-s-T; b: take (conflict)");
  world.mount.conflict = ConflictPolicy::kAbort;
  EXPECT_EQ(Show(world.Pull()), "a: leave (conflict); b: leave (conflict)");
}

TEST(PlanTest, FirstContactComparesAndDeletesNothing) {
  EXPECT_EQ(Show(Trees("", "same=1 differs=1 host=1", "same=1 differs=2 remote=1").Pull()),
            "differs: take (conflict), host kept; remote: take (remote changed); "
            "same: agree (same)");
}

TEST(PlanTest, ARecreatedSandboxDeletesNothingAndIsFilledAgain) {
  const World world = Trees("", "a=1 b=1", "");
  EXPECT_EQ(Show(world.Pull()), "");
  EXPECT_EQ(Show(world.Push()), "put a new; put b new");
}

TEST(PlanTest, APushMountNeverWritesTheHost) {
  World world = Trees("a=1 b=1 c=1 d=1", "a=1 b=2 c=1 d=2", "a=2 b=3 d=1 e=1");
  world.mount.policy = Policy::kPush;
  EXPECT_EQ(
      Show(world.Pull()),
      "a: leave (push only); b: leave (conflict); c: leave (push only); e: leave (push only)");
  world.mount.conflict = ConflictPolicy::kHost;
  EXPECT_EQ(Show(world.Pull()),
            "a: leave (push only); b: keep (conflict); c: leave (push only); e: leave (push only)");
  EXPECT_EQ(Show(world.Push()), "put b; put d");
}

TEST(PlanTest, APullMountNeverWritesTheRemote) {
  World world = Trees("a=1 b=1", "a=2 c=1", "a=1 b=2");
  world.mount.policy = Policy::kPull;
  EXPECT_EQ(Show(world.Push()), "");
  EXPECT_EQ(Show(world.Pull()), "b: take (conflict)");
}

TEST(PlanTest, DeletionsGoByTheMountsRule) {
  World world = Trees("a=1 b=1", "a=1 b=1", "b=1");
  world.mount.deletes = DeletePolicy::kReport;
  EXPECT_EQ(Show(world.Pull()), "a: leave (not deleted)");
  world.mount.deletes = DeletePolicy::kNever;
  EXPECT_EQ(Show(world.Pull()), "");
}

// A tree of `count` files, of which the remote deleted the first `deleted`.
World Deleted(int count, int deleted) {
  World world;
  for (int i = 0; i < count; ++i) {
    const RelPath path = Path("f" + std::to_string(1000 + i));
    world.base.emplace(path, Bytes("1"));
    world.host.files.emplace(path, Bytes("1"));
    if (i >= deleted) world.remote.files.emplace(path, Bytes("1"));
  }
  return world;
}

size_t Held(const World& world) {
  size_t held = 0;
  for (const Action& action : world.Pull()) held += action.why == Why::kHeld ? 1 : 0;
  return held;
}

TEST(PlanTest, TheGuardHoldsManyDeletionsBack) {
  EXPECT_EQ(Held(Deleted(20, 10)), 0u);
  EXPECT_EQ(Held(Deleted(20, 11)), 11u);
  EXPECT_EQ(Held(Deleted(100, 25)), 0u);
  EXPECT_EQ(Held(Deleted(100, 26)), 26u);
  EXPECT_EQ(Deleted(100, 25).Pull().size(), 25u);
}

TEST(PlanTest, TheGuardHoldsBackAnEmptiedTreeHoweverSmall) {
  EXPECT_EQ(Held(Deleted(1, 1)), 1u);
  World approved = Deleted(30, 30);
  EXPECT_EQ(Held(approved), 30u);
  approved.approve = true;
  EXPECT_EQ(Held(approved), 0u);
  EXPECT_EQ(approved.Pull().size(), 30u);
}

TEST(PlanTest, OtherChangesPassWhileDeletionsAreHeld) {
  World world = Deleted(20, 15);
  world.remote.files[Path("new")] = Bytes("1");
  const std::vector<Action> actions = world.Pull();
  EXPECT_EQ(Held(world), 15u);
  EXPECT_EQ(Show(actions.back()), "new: take (remote changed)");
}

TEST(PlanTest, DeletionsComeFirstAndDeepestFirst) {
  EXPECT_EQ(Show(Trees("d/a=1 d/e/b=1 z=1", "d/a=1 d/e/b=1 z=1", "d=2 a=1 z=1").Pull()),
            "d/e/b: take (remote changed); d/a: take (remote changed); a: take (remote changed); "
            "d: take (remote changed)");
}

TEST(PlanTest, AFileBecomesADirectoryWhereTheOtherSideIsUntouched) {
  EXPECT_EQ(Show(Trees("d=1 z=1", "d=1 z=1", "d/x=1 z=1").Pull()),
            "d: take (remote changed); d/x: take (remote changed)");
}

TEST(PlanTest, AFileAgainstADirectoryIsLeftAloneOnBothSides) {
  EXPECT_EQ(Show(Trees("d=1 z=1", "d=2 z=1", "d/x=1 d/y=1 z=2").Pull()),
            "d: leave (tree clash); d/x: leave (tree clash); d/y: leave (tree clash); "
            "z: take (remote changed)");
  EXPECT_EQ(Show(Trees("", "d/x=1", "d=1").Pull()), "d: leave (tree clash)");
}

TEST(PlanTest, AHeldDeletionKeepsItsNameFromBecomingADirectory) {
  World world = Trees("d=1", "d=1", "d/x=1");
  EXPECT_EQ(Show(world.Pull()), "d: take (remote changed); d/x: take (remote changed)");
  world.mount.deletes = DeletePolicy::kReport;
  EXPECT_EQ(Show(world.Pull()), "d: leave (not deleted); d/x: leave (tree clash)");
  world.mount.deletes = DeletePolicy::kNever;
  EXPECT_EQ(Show(world.Pull()), "d/x: leave (tree clash)");
}

TEST(PlanTest, OddThingsAreNeitherTakenNorTakenForDeletions) {
  World world = Trees("a=1 d/x=1 d/y=1 z=1", "a=1 d/x=1 d/y=2 z=1", "z=2");
  world.remote.oddities = {{"a", Oddity::kSpecial}, {"d", Oddity::kUnreadable}};
  EXPECT_EQ(Show(world.Pull()),
            "a: leave (odd); d/x: leave (odd); d/y: leave (odd); z: take (remote changed)");
  World host = Trees("a=1 b=1 e=1 z=1", "z=1", "a=2 b=1 c=1 e=1 z=1");
  host.host.oddities = {
      {"a", Oddity::kLink}, {"b", Oddity::kUnreadable}, {"c/pipe", Oddity::kSpecial}};
  EXPECT_EQ(Show(host.Pull()), "a: leave (odd); c: leave (odd)");
  EXPECT_EQ(Show(host.Push()), "remove e");
}

TEST(PlanTest, IgnoredNamesDoNotExist) {
  World world = Trees("a.o=1 b=1", "b=1", "a.o=2 b=1 c.o=1 .hermesd-x=1");
  world.ignore = IgnoreList({"*.o"});
  EXPECT_EQ(Show(world.Pull()), "");
  EXPECT_EQ(Show(world.Push()), "");
}

TEST(PlanTest, DeniedNamesAreNotWritten) {
  World world = Trees(".git/config=1", ".git/config=1", ".git/config=2 .ssh/rc=1 ok=1");
  EXPECT_EQ(Show(world.Pull()),
            ".git/config: leave (denied); .ssh/rc: leave (denied); ok: take (remote changed)");
}

std::string AsideOf(const std::string& name, const std::string& also = "") {
  World world = Trees("", name + "=1" + also, name + "=2");
  world.mount.conflict = ConflictPolicy::kBoth;
  for (const Action& action : world.Pull()) {
    if (action.aside) return action.aside->str();
  }
  return "";
}

TEST(PlanTest, AsideNamesAreFreshAndKeepTheExtension) {
  EXPECT_EQ(AsideOf("d/a.tar.gz"), "d/a.tar.conflict-s-T.gz");
  EXPECT_EQ(AsideOf(".env"), ".env.conflict-s-T");
  EXPECT_EQ(AsideOf("a.b/c"), "a.b/c.conflict-s-T");
  EXPECT_EQ(AsideOf("a.md", " a.conflict-s-T.md=1"), "a.conflict-s-T-2.md");
  const std::string longest(255, 'x');
  EXPECT_EQ(AsideOf(longest), longest.substr(13) + ".conflict-s-T");
}

TEST(PlanTest, WithoutRoomForAnAsideNameAConflictIsLeftAlone) {
  std::string deep = "a";
  while (deep.size() < kMaxPathBytes - 60) deep += "/" + std::string(200, 'b');
  deep.resize(kMaxPathBytes - 2, 'c');
  EXPECT_EQ(AsideOf(deep), "");
}

}  // namespace
}  // namespace hermes::sync
