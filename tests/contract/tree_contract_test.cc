// What sync asks of a place, at the tool level that each engine has there; and that the levels say
// the same.

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "backends/engine/files_request.h"
#include "daemon/runtime/status.h"
#include "tests/contract/far_tree.h"

namespace hermes::contract {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr std::string_view kEpoch = "0123456789abcdef";

std::set<std::string> NamesOf(const sync::RemoteLook& look) {
  std::set<std::string> names;
  for (const auto& [path, content] : look.manifest.files) names.insert(path.str());
  return names;
}

// What does not depend on the level.
void ExpectSame(const sync::RemoteLook& one, const sync::RemoteLook& other) {
  EXPECT_EQ(one.exists, other.exists);
  EXPECT_EQ(one.epoch, other.epoch);
  EXPECT_EQ(one.digest, other.digest);
  EXPECT_EQ(NamesOf(one), NamesOf(other));
  EXPECT_EQ(one.manifest.oddities, other.manifest.oddities);
}

TEST_P(BackendContract, V39ATreeIsMadeAndLookedAt) {
  FarTree far(world(), session());
  EXPECT_FALSE(far.Look().exists);
  EXPECT_EQ(far.Apply({{.name = "a", .wanted = "1"},
                       {.name = "d/e/run", .wanted = "22", .executable = true},
                       {.name = "d/empty", .wanted = ""}}),
            "ppp");
  EXPECT_EQ(far.found_epoch, "");
  EXPECT_EQ(far.In("cat a d/e/run d/empty; stat -c ' %a %n' a d d/e/run; ls -A"),
            "122 644 a\n 755 d\n 755 d/e/run\n.hermesd-epoch\na\nd\n");
  const sync::RemoteLook look = far.Look();
  EXPECT_EQ(look.level,
            session().engine->runs_files() ? sync::ToolLevel::kRunner : sync::ToolLevel::kShell);
  EXPECT_EQ(look.epoch, kEpoch);
  EXPECT_THAT(NamesOf(look), ElementsAre("a", "d/e/run", "d/empty"));
  EXPECT_TRUE(look.manifest.files.at(*sync::RelPath::Parse("d/e/run")).executable);
  EXPECT_EQ(look.manifest.files.at(*sync::RelPath::Parse("a")).digest, sync::DigestOf("1"));
  const sync::RemoteLook again = far.Look(look.digest);
  EXPECT_TRUE(again.same);
  EXPECT_TRUE(again.manifest.files.empty());
}

// Also where the bytes of another file are copied over there, and where a file is replaced.
TEST_P(BackendContract, V39FilesHaveTheTimesThatTheyHaveOnTheHost) {
  FarTree far(world(), session());
  const std::string big(100'000, 'x');
  const auto send = [&](const std::string& small, int64_t time_s) {
    sync::RemoteApply apply = far.Request({{.name = "a", .expected = "1", .wanted = small},
                                           {.name = "d/big", .wanted = big},
                                           {.name = "d/same", .wanted = big}});
    for (sync::RemoteChange& change : apply.changes) change.mtime_ns = ++time_s * 1'000'000'000;
    return far.Apply(std::move(apply));
  };
  EXPECT_EQ(send("1", 1'000'000'000), "ppp");
  EXPECT_EQ(far.In("stat -c '%Y %n' a d/big d/same"),
            "1000000001 a\n1000000002 d/big\n1000000003 d/same\n");
  EXPECT_EQ(send("2", 1'100'000'000), "ppp");
  EXPECT_EQ(far.In("cat a; stat -c ' %Y %n' a d/big"), "2 1100000001 a\n 1000000002 d/big\n")
      << "what is there already is not touched";
}

TEST_P(BackendContract, TheHomeThatTheEngineTellsIsTheOneThatTreesMean) {
  FarTree far(world(), session());
  const std::string path = far.root.path;
  ASSERT_EQ(far.Apply({{.name = "a", .wanted = "1"}}), "p");
  const std::string home = session().engine->home();
  EXPECT_EQ(home, far.In("printf %s \"$HOME\""));
  const std::string name = "hermes-test-home-" + world().UniqueSeconds(1);
  far.In("ln -s \"$PWD\" ~/" + name);
  far.root.path = "~/" + name;
  EXPECT_THAT(NamesOf(far.Look()), ElementsAre("a"));
  far.root.path = path;
  far.In("rm ~/" + name);
}

TEST_P(BackendContract, V50OnlyWhatIsExpectedIsReplacedOrDeleted) {
  FarTree far(world(), session());
  far.Apply(std::vector<FarChange>{});
  far.In(
      "echo -n old >edited; echo -n newer >foreign; echo -n same >same; echo -n x >gone; "
      "mkdir d; echo -n 1 >d/last; echo -n newer >kept; chmod 755 edited");
  EXPECT_EQ(
      far.Apply({{.name = "gone", .expected = "x"},
                 {.name = "d/last", .expected = "1"},
                 {.name = "kept", .expected = "was"},
                 {.name = "never was", .expected = "1"},
                 {.name = "edited", .expected = "old", .wanted = "new", .was_executable = true},
                 {.name = "foreign", .expected = "ours", .wanted = "new"},
                 {.name = "kept/below", .wanted = "new"},
                 {.name = "same", .expected = "ours", .wanted = "same"},
                 {.name = "back", .expected = "lost there", .wanted = "back"}}),
      "ppcppccpp");
  EXPECT_EQ(far.In("cat edited foreign same kept; ls -Am; stat -c %a edited"),
            "newnewersamenewer.hermesd-epoch, back, edited, foreign, kept, same\n644\n");
}

TEST_P(BackendContract, TheTokenIsToldBeforeItIsWritten) {
  FarTree far(world(), session());
  sync::RemoteApply apply = far.Request({});
  apply.epoch = "";
  EXPECT_EQ(far.Apply(apply), "");
  EXPECT_EQ(far.In("ls -A"), "");
  EXPECT_TRUE(far.Look().exists);
  apply.epoch = std::string(64, 'a');
  EXPECT_EQ(far.Apply(apply), "");
  EXPECT_EQ(far.found_epoch, "");
  apply.epoch = "";
  EXPECT_EQ(far.Apply(apply), "");
  EXPECT_EQ(far.found_epoch, std::string(64, 'a'));
  EXPECT_EQ(far.Apply({{.name = "a", .wanted = "1"}}), "p");
  EXPECT_EQ(far.found_epoch, std::string(64, 'a'));
  EXPECT_EQ(far.Look().epoch, kEpoch);
  EXPECT_EQ(far.In("stat -c '%a %h' .hermesd-epoch; ls -A"), "600 1\n.hermesd-epoch\na\n");
  far.In("ln -sf a .hermesd-epoch");
  EXPECT_EQ(far.Look().epoch, "");
  EXPECT_EQ(far.Apply(std::vector<FarChange>{}), "");
  EXPECT_EQ(far.found_epoch, "");
  EXPECT_EQ(far.In("cat a"), "1");
  EXPECT_EQ(far.Look().epoch, kEpoch);
}

TEST_P(BackendContract, FileMountsOfOneDirectoryHaveATokenEach) {
  FarTree far(world(), session());
  const std::string longest(255, 'n');
  int number = 0;
  std::vector<std::string> epochs;
  for (const std::string& name : {std::string("it's one"), std::string("other"), longest}) {
    far.root.only = *sync::RelPath::Parse(name);
    sync::RemoteApply apply = far.Request({{.name = name, .wanted = name}});
    apply.epoch = std::string(16, static_cast<char>('a' + number++));
    epochs.push_back(apply.epoch);
    EXPECT_EQ(far.Apply(apply), "p");
    EXPECT_EQ(far.found_epoch, "");
  }
  EXPECT_EQ(far.Look().epoch, "") << "a name that is too long has none";
  far.root.only = *sync::RelPath::Parse("it's one");
  EXPECT_EQ(far.Look().epoch, epochs[0]);
  EXPECT_EQ(far.WithAShell()->Look().epoch, epochs[0]);
  EXPECT_THAT(NamesOf(far.Look()), ElementsAre("it's one"));
  far.root.only = *sync::RelPath::Parse("other");
  EXPECT_EQ(far.Look().epoch, epochs[1]);
  EXPECT_EQ(far.WithAShell()->Apply(std::vector<FarChange>{}), "");
  EXPECT_EQ(far.Look().epoch, kEpoch);
  far.root.only.reset();
  EXPECT_EQ(far.Look().epoch, "");
  EXPECT_THAT(NamesOf(far.Look()), ElementsAre("it's one", longest, "other"));
}

TEST_P(BackendContract, SecretsAreTheAccountsOwn) {
  FarTree far(world(), session());
  sync::RemoteApply apply = far.Request(
      {{.name = "d/key", .wanted = "k"}, {.name = "d/run", .wanted = "r", .executable = true}});
  apply.secret = true;
  EXPECT_EQ(far.Apply(apply), "pp");
  EXPECT_EQ(far.In("stat -c '%a %n' . d d/key d/run"), "700 .\n700 d\n600 d/key\n700 d/run\n");
}

TEST_P(BackendContract, V46ThousandsOfDirectoriesAndFilesGoInOneApply) {
  FarTree far(world(), session());
  const bool shell = far.Look().level == sync::ToolLevel::kShell;  // tests/engine do it at level B
  const int files = Scaled(shell ? 1'000 : 10'000);
  const int directories = Scaled(shell ? 350 : 3'500);
  std::vector<FarChange> changes;
  std::vector<std::string> names;
  for (int i = 0; i < files; ++i) {
    names.push_back("d" + std::to_string(i % 50) + "/e" + std::to_string(i % directories) + "/f" +
                    std::to_string(i));
    changes.push_back({.name = names.back(), .wanted = std::to_string(i)});
  }
  EXPECT_EQ(far.Apply(changes), std::string(changes.size(), 'p'));
  const sync::RemoteLook look = far.Look();
  EXPECT_EQ(look.manifest.files.size(), changes.size());
  EXPECT_EQ(far.WithAShell()->Look().digest, look.digest);
  names.resize(std::min<size_t>(names.size(), 150));
  const std::map<std::string, std::string> fetched = far.Fetch(names);
  EXPECT_EQ(fetched.size(), names.size());
  EXPECT_EQ(fetched.at(names.back()), std::to_string(names.size() - 1));
}

TEST_P(BackendContract, V48DirectoriesThatExistStayAsTheyAre) {
  FarTree far(world(), session());
  far.Apply(std::vector<FarChange>{});
  far.In(
      "mkdir -p d/e; echo -n 1 >d/e/old; chmod 711 d/e; chmod 2770 d; chmod 751 .; "
      "touch -d @1000 d .");
  EXPECT_EQ(far.Apply({{.name = "d/e/old", .expected = "1"},
                       {.name = "d/e/new", .wanted = "2"},
                       {.name = "d/e/f/new", .wanted = "3"}}),
            "ppp");
  EXPECT_EQ(far.In("stat -c '%a %n' . d d/e d/e/f; stat -c '%Y %a' d; stat -c %a ../far"),
            "751 .\n2770 d\n711 d/e\n755 d/e/f\n1000 2770\n751\n");
}

TEST_P(BackendContract, V49WhatCannotBeWrittenFailsAloneAndTheRestProceeds) {
  FarTree far(world(), session());
  far.Apply(std::vector<FarChange>{});
  const bool root = far.In(
                        "ln -s /tmp link; mkdir shut; echo -n 1 >shut/old; chmod 555 shut; "
                        "id -u") == "0\n";
  EXPECT_EQ(far.Apply({{.name = "link/a", .wanted = "evil"},
                       {.name = "link/gone", .expected = "1"},
                       {.name = "fine/a", .wanted = "good"}}),
            "ccp");
  if (!root) {
    EXPECT_EQ(far.Apply({{.name = "shut/old", .expected = "1", .wanted = "2"},
                         {.name = "shut/new", .wanted = "2"},
                         {.name = "fine/b", .wanted = "good"}}),
              "ffp");
  }
  far.fails = 1;
  EXPECT_EQ(far.Apply({{.name = "one", .wanted = "1"},
                       {.name = "changes", .wanted = "2"},
                       {.name = "two", .wanted = "3"}}),
            "pfp");
  EXPECT_EQ(far.In("chmod 755 shut; cat shut/old fine/a one two; ls -A"),
            "1good13.hermesd-epoch\nfine\nlink\none\nshut\ntwo\n");
}

TEST_P(BackendContract, FilesOfTheSameBytesAreEachPlaced) {
  FarTree far(world(), session());
  const std::string bytes(200'000, 'b');
  EXPECT_EQ(far.Apply({{.name = "one", .wanted = bytes},
                       {.name = "d/two", .wanted = bytes, .executable = true},
                       {.name = "few", .wanted = "3"},
                       {.name = "none", .wanted = ""},
                       {.name = "d/none", .wanted = ""},
                       {.name = "three", .expected = bytes, .wanted = "3"}}),
            "pppppp");
  EXPECT_EQ(far.In("cmp one d/two && stat -c '%a %h' one d/two"), "644 1\n755 1\n");
  EXPECT_EQ(far.In("cat few three; stat -c %s none d/none"), "330\n0\n");
}

TEST_P(BackendContract, FetchGivesWhatIsStillThere) {
  FarTree far(world(), session());
  const std::string big(300'000, 'b'), deep = std::string(120, 'd') + "/" + std::string(120, 'e');
  EXPECT_EQ(far.Apply({{.name = "a b", .wanted = "1"},
                       {.name = deep, .wanted = big},
                       {.name = "other", .wanted = "2"}}),
            "ppp");
  EXPECT_THAT(far.Fetch({"a b", deep, "gone", "d/gone"}),
              UnorderedElementsAre(Pair("a b", "1"), Pair(deep, big)));
  EXPECT_THAT(far.Fetch({"gone"}), ElementsAre());
}

TEST_P(BackendContract, OddNamesAndOddThingsAreToldAlikeAtEachLevel) {
  FarTree far(world(), session());
  std::vector<FarChange> changes;
  for (const char* name :
       {"-rf", "--", "a b", "$(x)", "'\"`", "*", "cr\r", "d/\xff\xfe", "\x01", "~"})
    changes.push_back({.name = name, .wanted = name});
  EXPECT_EQ(far.Apply(changes), std::string(changes.size(), 'p'));
  far.In(
      "ln -s d link; mkfifo fifo; : >'new\nline'; : >'back\\slash'; head -c 200 /dev/zero >big; "
      "mkdir .git; : >.git/x; : >d/x.o");
  far.root.ignore = {".git", "*.o"};
  far.root.max_file_bytes = 100;
  const sync::RemoteLook look = far.Look();
  EXPECT_EQ(look.manifest.files.size(), changes.size());
  EXPECT_EQ(look.manifest.oddities.size(), 5u);
  ExpectSame(look, far.WithAShell()->Look());
}

TEST_P(BackendContract, BothLevelsLeaveTheSameTree) {
  FarTree far(world(), session());
  far.Apply(std::vector<FarChange>{});
  const std::string start =
      "rm -rf * .h*; mkdir -p d/e dir; echo -n 1 >d/e/a; echo -n 2 >file; "
      "echo -n 3 >dir/x; ln -s d link; echo -n 4 >foreign; echo -n 5 >plain";
  const std::vector<FarChange> changes = {{.name = "d/e/a", .expected = "1"},
                                          {.name = "file", .expected = "2"},
                                          {.name = "dir/x", .expected = "3"},
                                          {.name = "link", .expected = "5"},
                                          {.name = "dir", .wanted = "now a file"},
                                          {.name = "file/below", .wanted = "now a directory"},
                                          {.name = "link/x", .wanted = "through"},
                                          {.name = "foreign", .wanted = "4"},
                                          {.name = "plain/x", .wanted = "x"},
                                          {.name = "d/e/f/g", .wanted = "g", .executable = true}};
  far.In(start);
  const std::string letters = far.Apply(changes);
  EXPECT_EQ(letters, "pppcppcpcp");
  const sync::RemoteLook look = far.Look();
  const std::string listed = far.In("find . | sort; stat -c %a d/e/f");
  far.In(start);
  const auto shell = far.WithAShell();
  EXPECT_EQ(shell->Apply(changes), letters);
  ExpectSame(look, shell->Look());
  EXPECT_EQ(far.In("find . | sort; stat -c %a d/e/f"), listed);
  // Also where there is nothing yet, and nothing to make.
  for (FarTree* tree : {&far, shell.get()}) {
    far.In("rm -rf ../far");
    EXPECT_EQ(tree->Apply({{.name = "a", .expected = "1"}}), "p");
    EXPECT_EQ(tree->found_epoch, "");
    EXPECT_EQ(far.Look().epoch, kEpoch);
  }
}

TEST_P(BackendContract, ALargeFileTravelsApartFromCommands) {
  FarTree far(world(), session());
  std::string bytes(9 << 20, 'x');
  for (size_t i = 0; i < bytes.size(); i += 1000) bytes[i] = static_cast<char>(i / 1000);
  EXPECT_EQ(far.Apply({{.name = "large", .wanted = bytes}, {.name = "small", .wanted = "s"}}),
            "pp");
  EXPECT_EQ(far.Look().digest,
            sync::ManifestDigest({{*sync::RelPath::Parse("large"), {sync::DigestOf(bytes)}},
                                  {*sync::RelPath::Parse("small"), {sync::DigestOf("s")}}}));
  EXPECT_TRUE(far.Fetch({"large"}).at("large") == bytes);
}

TEST_P(BackendContract, ABrokenConnectionPlacesNothingOrIsMended) {
  FarTree far(world(), session());
  far.Apply(std::vector<FarChange>{});
  far.before = [&](size_t index) {
    if (index == 1) session().sandbox->Cut();
  };
  const std::vector<FarChange> changes = {{.name = "one", .wanted = std::string(200'000, '1')},
                                          {.name = "two", .wanted = std::string(200'000, '2')}};
  const std::string told = far.Apply(changes);
  far.before = nullptr;
  if (session().engine->runs_files() || session().facts.engine == "runner") {
    EXPECT_EQ(told, "pp");
  } else {
    EXPECT_EQ(told, "BACKEND_UNREACHABLE");
    EXPECT_EQ(NamesOf(far.Look()), std::set<std::string>{});
    EXPECT_EQ(far.Apply(changes), "pp");
  }
  EXPECT_THAT(NamesOf(far.Look()), ElementsAre("one", "two"));
}

class Follow {
 public:
  Follow(World& world, TestSession& session, FarTree& far)
      : world_(world), session_(session), far_(far) {}

  // An apply and a command that follows it.
  std::string Apply(const std::vector<FarChange>& changes) {
    sync::RemoteApply apply = far_.Request(changes);
    apply.on_follow = [this](std::string run_id) {
      CommandSpec spec;
      spec.script = "cat " + far_.root.path + "/f";
      spec.after = std::move(run_id);
      run = world_.StartSoon(session_, std::move(spec));
    };
    std::string letters = far_.Apply(std::move(apply));
    if (run != nullptr) world_.WaitEnd(run);
    return letters;
  }

  RunPtr run;

 private:
  World& world_;
  TestSession& session_;
  FarTree& far_;
};

TEST_P(BackendContract, ACommandFollowsAGoodApply) {
  FarTree far(world(), session());
  Follow follow(world(), session(), far);
  EXPECT_EQ(follow.Apply({{.name = "f", .wanted = "placed"}}), "p");
  if (!session().engine->runs_files()) {
    EXPECT_EQ(follow.run, nullptr);
    return;
  }
  ASSERT_NE(follow.run, nullptr);
  EXPECT_EQ(follow.run->out, "placed");
  ExpectExit(follow.run, 0);
  EXPECT_EQ(follow.Apply({{.name = "f", .expected = "other", .wanted = "conflict"}}), "c");
  EXPECT_EQ(follow.run->out, "placed") << "what the place has is kept, and is no failure";
}

TEST_P(BackendContract, ACommandNeverStartsAfterABadApply) {
  FarTree far(world(), session());
  if (!session().engine->runs_files()) GTEST_SKIP() << "nothing can follow here";
  far.Apply({{.name = "f", .wanted = "old"}});
  Follow follow(world(), session(), far);
  far.fails = 0;
  EXPECT_EQ(follow.Apply({{.name = "changes", .wanted = "new"}}), "f");
  ASSERT_NE(follow.run, nullptr);
  EXPECT_EQ(follow.run->outcome->state, CommandState::kNeverStarted) << follow.run->Told();
  EXPECT_FALSE(follow.run->started);
  EXPECT_EQ(follow.run->out, "");
}

TEST_P(BackendContract, AFileServiceLeavesNoTraceInItsSession) {
  FarTree far(world(), session());
  far.In("true");
  far.Apply({{.name = "f", .wanted = "1"}});
  const RunPtr set = Run("export KEPT=1; cd /usr");
  const uint64_t generation = set->outcome->generation;
  for (int i = 0; i < 3; ++i) far.Look();
  far.Apply({{.name = "f", .expected = "1", .wanted = "2"}});
  const RunPtr run = Run("echo $KEPT; pwd");
  EXPECT_EQ(run->out, "1\n/usr\n");
  EXPECT_EQ(run->outcome->generation, generation);
  EXPECT_FALSE(run->outcome->residual);
}

TEST_P(BackendContract, AHalfToldApplyEndsWithItsDaemon) {
  if (!session().engine->runs_files()) GTEST_SKIP() << "its stream ends with it";
  FarTree far(world(), session());
  far.Apply(std::vector<FarChange>{});
  const sync::RemoteApply apply = far.Request({{.name = "f", .wanted = std::string(1'000, 'f')}});
  CommandSpec spec;
  spec.files = true;
  spec.stdin_open = true;
  RunPtr files = world().Start(session(), spec);
  const std::string request = ApplyRequest("@mark", apply) + "half of it";
  EXPECT_TRUE(world().Write(files, 0, request, false).ok());
  spec = {};
  spec.script = "touch " + far.root.path + "/followed";
  spec.after = files->run_id;
  RunPtr following = world().Start(session(), spec);
  ASSERT_TRUE(world().Until([&] { return files->started.has_value(); }));
  world().RestartDaemon(Duration(0), std::set<std::string, std::less<>>{});
  for (const RunPtr& run : {files, following}) {
    EXPECT_EQ(ReasonOf(world().Await(session().engine->Adopt(run->run_id, 0, 0)).status()),
              Reason::k_COMMAND_UNKNOWN);
  }
  FarTree again(world(), session());
  again.root = far.root;
  EXPECT_EQ(NamesOf(again.Look()), std::set<std::string>{});
  EXPECT_EQ(again.Apply({{.name = "f", .wanted = "whole"}}), "p");
  EXPECT_EQ(again.In("sleep 0.1; ls"), "f\n");
}

}  // namespace
}  // namespace hermes::contract
