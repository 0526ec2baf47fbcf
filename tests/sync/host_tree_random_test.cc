// A watched tree under random changes: by this program between two looks, compared with all that is
// there, and by other programs at any time, checked against what they had finished.

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/runtime/random.h"
#include "sync/host_tree.h"
#include "tests/sync/host_tree_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

bool Deep() { return std::getenv("HERMES_DEEP") != nullptr; }

class HostTreeRandomTest : public ::testing::TestWithParam<int>, protected HostTreeStand {};

// Anything that may happen to a tree; errors are part of it.
class Mischief {
 public:
  Mischief(HostTreeStand* stand, uint64_t seed) : stand_(stand), random_(seed) {}

  void Do() {
    std::error_code ignored;
    const std::string a = Name();
    const std::string b = Name();
    switch (random_.Below(10)) {
      case 0:
      case 1:
      case 2:
        fs::create_directories(fs::path(a).parent_path(), ignored);
        WriteFile(a, std::to_string(random_.Below(5)));
        break;
      case 3:
        fs::create_directories(a, ignored);
        break;
      case 4:
        fs::remove_all(a, ignored);
        break;
      case 5:
      case 6:
        rename(a.c_str(), b.c_str());
        break;
      case 7:
        renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
        break;
      case 8:
        chmod(a.c_str(), random_.Below(2) != 0 ? 0755 : 0744);
        break;
      default:
        fs::create_symlink("a", a, ignored);
        break;
    }
  }

 private:
  std::string Name() {
    static constexpr std::array<const char*, 3> kParts = {"a", "b", "c"};
    std::string name = kParts[random_.Below(kParts.size())];
    for (uint64_t depth = random_.Below(3); depth > 0; --depth)
      name += std::string("/") + kParts[random_.Below(kParts.size())];
    return random_.Below(6) == 0 ? stand_->Outside(name) : stand_->At(name);
  }

  HostTreeStand* stand_;
  SeededRandom random_;
};

TEST_P(HostTreeRandomTest, EveryLookShowsWhatIsThere) {
  Mischief mischief(this, static_cast<uint64_t>(GetParam()));
  SeededRandom random(static_cast<uint64_t>(GetParam()) + 1000);
  // Some with too few watches, or none.
  const std::array<size_t, 3> watches = {kMaxWatches, kMaxWatches, random.Below(4)};
  Open(watches[static_cast<size_t>(GetParam()) % watches.size()]);
  for (int round = 0; round < (Deep() ? 10'000 : 400); ++round) {
    for (uint64_t changes = random.Below(6); changes > 0; --changes) mischief.Do();
    if (tree_->Unchanged()) {
      ASSERT_EQ(tree_->manifest().files, Truth()) << "round " << round;
    }
    ASSERT_EQ(Now(random.Below(20) == 0 ? Effort::kStats : Effort::kChanges).files, Truth())
        << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, HostTreeRandomTest, ::testing::Range(0, 6));

bool Nested(const std::string& a, const std::string& b) {
  return (a + "/").starts_with(b + "/") || (b + "/").starts_with(a + "/");
}

// One writer's tree as it should be, and how it goes on. The writer and whoever checks it make the
// same edits of the same seed, one on disk and one in memory.
class Script {
 public:
  explicit Script(int writer)
      : home_("w" + std::to_string(writer)), random_(static_cast<uint64_t>(writer)) {}

  struct Edit {
    enum class Kind { kWrite, kReplace, kRemove, kMoveDirectory, kRemoveDirectory } kind;
    std::string from, to, bytes;
  };

  // Also changes the model: after this the edit is done.
  Edit Next(std::set<std::string>* touched) {
    Edit edit{.kind = static_cast<Edit::Kind>(random_.Below(5)), .from = Directory()};
    edit.to = Directory();
    edit.bytes = std::to_string(++count_);
    switch (edit.kind) {
      case Edit::Kind::kWrite:
      case Edit::Kind::kReplace:
        edit.to += "/" + std::to_string(random_.Below(4));
        files_[edit.to] = edit.bytes;
        touched->insert(edit.to);
        break;
      case Edit::Kind::kRemove:
        edit.from += "/" + std::to_string(random_.Below(4));
        files_.erase(edit.from);
        touched->insert(edit.from);
        break;
      case Edit::Kind::kMoveDirectory:
        Move(edit, touched);
        break;
      case Edit::Kind::kRemoveDirectory:
        Take(edit.from, touched);
        break;
    }
    return edit;
  }

  const std::string& home() const { return home_; }
  const std::map<std::string, std::string>& files() const { return files_; }

 private:
  std::string Directory() {
    static constexpr std::array<const char*, 4> kNames = {"", "/d", "/d/e", "/f"};
    return home_ + "/" + std::to_string(random_.Below(4)) + kNames[random_.Below(kNames.size())];
  }

  // What lies in a directory leaves the model. Its whole subtree is touched: who lists it while it
  // moves may take what comes into it later for something of its old name.
  std::map<std::string, std::string> Take(const std::string& directory,
                                          std::set<std::string>* touched) {
    std::map<std::string, std::string> taken;
    touched->insert(directory + "/");
    for (auto at = files_.begin(); at != files_.end();) {
      if (!at->first.starts_with(directory + "/")) {
        ++at;
        continue;
      }
      taken.emplace(at->first.substr(directory.size()), at->second);
      at = files_.erase(at);
    }
    return taken;
  }

  // On disk: the target is removed, then the source renamed to it, where that is possible at all.
  void Move(const Edit& edit, std::set<std::string>* touched) {
    if (Nested(edit.from, edit.to)) return;
    Take(edit.to, touched);
    for (const auto& [name, bytes] : Take(edit.from, touched)) files_[edit.to + name] = bytes;
  }

  const std::string home_;
  SeededRandom random_;
  uint64_t count_ = 0;
  std::map<std::string, std::string> files_;
};

void Carry(const HostTreeStand& stand, const Script::Edit& edit) {
  using Kind = Script::Edit::Kind;
  std::error_code ignored;
  const std::string from = stand.At(edit.from);
  const std::string to = stand.At(edit.to);
  switch (edit.kind) {
    case Kind::kWrite:
      fs::create_directories(fs::path(to).parent_path(), ignored);
      WriteFile(to, edit.bytes);
      break;
    case Kind::kReplace:
      fs::create_directories(fs::path(to).parent_path(), ignored);
      WriteFile(to + ".new", edit.bytes);
      fs::rename(to + ".new", to, ignored);
      break;
    case Kind::kRemove:
      fs::remove(from, ignored);
      break;
    case Kind::kMoveDirectory:
      if (Nested(edit.from, edit.to)) break;
      fs::remove_all(to, ignored);
      fs::create_directories(from, ignored);
      fs::create_directories(fs::path(to).parent_path(), ignored);
      fs::rename(from, to, ignored);
      break;
    case Kind::kRemoveDirectory:
      fs::remove_all(from, ignored);
      break;
  }
}

// Shared with a writer's process.
struct Progress {
  std::atomic<int> begun = 0;
  std::atomic<int> done = 0;
};

struct Writer {
  explicit Writer(int number) : script(number) {}
  Script script;
  Progress* progress = nullptr;
  pid_t pid = -1;
  int known = 0;  // so many edits are in the script's model

  void AdvanceTo(int edits) {
    std::set<std::string> ignored;
    for (; known < edits; ++known) script.Next(&ignored);
  }
};

// Where there is one, a file system in memory: ten times the edits per second, so more of them fall
// into each look.
class InMemory {
 public:
  InMemory() {
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    if (!Deep() && access("/dev/shm", W_OK | X_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
  }
  ~InMemory() {
    if (before_) setenv("TMPDIR", before_->c_str(), 1);
    if (!before_) unsetenv("TMPDIR");
  }
  InMemory(const InMemory&) = delete;
  InMemory& operator=(const InMemory&) = delete;

 private:
  std::optional<std::string> before_;
};

class HostTreeWritersTest : public ::testing::Test, private InMemory, protected HostTreeStand {
 protected:
  static constexpr int kWriters = 4;
  static constexpr int kEdits = 25'000;  // of each

  void Start(Writer* writer) {
    void* const shared =
        mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(shared, MAP_FAILED);
    writer->progress = new (shared) Progress;
    writer->pid = fork();
    ASSERT_GE(writer->pid, 0);
    if (writer->pid != 0) return;
    std::set<std::string> ignored;
    for (int i = 0; i < kEdits; ++i) {
      const Script::Edit edit = writer->script.Next(&ignored);
      writer->progress->begun.store(i + 1);
      Carry(*this, edit);
      writer->progress->done.store(i + 1);
    }
    _exit(0);
  }

  // Of a name that the last look had wrong: which look sees it. Nobody writes any more.
  std::string WhoSeesIt(const std::string& name, const Content& wrong) {
    for (const Writer& writer : *writers_) kill(writer.pid, SIGSTOP);
    const RelPath path = *RelPath::Parse(name);
    std::string told;
    const auto look = [&](std::string_view how) {
      const FileMap& files = tree_->manifest().files;
      const auto found = files.find(path);
      told += found == files.end() ? ", gone" : found->second == wrong ? ", same" : ", other";
      told += " " + std::string(how);
    };
    look(tree_->Unchanged() ? "and quiet" : "and not quiet");
    for (const auto& [effort, how] :
         {std::pair(Effort::kChanges, "by notices"), std::pair(Effort::kStats, "by times"),
          std::pair(Effort::kBytes, "by bytes")}) {
      if (!tree_->Refresh(effort).ok()) told += " (failed)";
      look(how);
    }
    return told;
  }

  static bool Touches(const std::set<std::string>& touched, const std::string& name) {
    for (size_t slash = name.find('/'); slash != name.npos; slash = name.find('/', slash + 1))
      if (touched.contains(name.substr(0, slash + 1))) return true;
    return touched.contains(name);
  }

  // The manifest has what the writer had done by `writer.known`, but for what it did since.
  void Check(const Writer& writer) {
    Script later = writer.script;
    std::set<std::string> touched;
    for (int i = writer.progress->begun.load(); i > writer.known; --i) later.Next(&touched);
    const std::string prefix = writer.script.home() + "/";
    std::set<std::string> names;
    for (const auto& [name, bytes] : writer.script.files()) names.insert(name);
    const FileMap& files = tree_->manifest().files;
    for (auto at = files.lower_bound(*RelPath::Parse(writer.script.home()));
         at != files.end() && at->first.str().starts_with(prefix); ++at)
      names.insert(at->first.str());
    for (const std::string& name : names) {
      if (Touches(touched, name) || name.ends_with(".new")) continue;
      const auto wanted = writer.script.files().find(name);
      const auto found = files.find(*RelPath::Parse(name));
      const bool same = wanted == writer.script.files().end()
                            ? found == files.end()
                            : found != files.end() && found->second == Bytes(wanted->second);
      ASSERT_TRUE(same) << name << " is not as after edit " << writer.known << ": "
                        << (found == files.end() ? "unknown" : "another version or gone")
                        << WhoSeesIt(name, found == files.end() ? Content{} : found->second);
      ++checked_;
    }
  }

  uint64_t checked_ = 0;
  std::vector<Writer>* writers_ = nullptr;
};

TEST_F(HostTreeWritersTest, NoFinishedEditOfAnotherProgramIsMissed) {
  Open();
  std::vector<Writer> writers;
  writers_ = &writers;
  for (int i = 0; i < kWriters; ++i) writers.emplace_back(i);
  for (Writer& writer : writers) Start(&writer);
  int looks = 0;
  for (bool over = false; !over && !HasFatalFailure(); ++looks) {
    over = true;
    std::vector<int> done;
    for (const Writer& writer : writers) {
      done.push_back(writer.progress->done.load());
      over = over && done.back() == kEdits;
    }
    if (!tree_->Unchanged()) Now();
    for (size_t i = 0; i < writers.size() && !HasFatalFailure(); ++i) {
      writers[i].AdvanceTo(done[i]);
      Check(writers[i]);
    }
  }
  for (const Writer& writer : writers) {
    if (HasFatalFailure()) kill(writer.pid, SIGKILL);
    waitpid(writer.pid, nullptr, 0);
  }
  if (HasFatalFailure()) return;
  EXPECT_EQ(tree_->manifest().files, Truth());
  EXPECT_TRUE(tree_->watching());
  RecordProperty("looks", looks);
  RecordProperty("checked", std::to_string(checked_));
}

}  // namespace
}  // namespace hermes::sync
