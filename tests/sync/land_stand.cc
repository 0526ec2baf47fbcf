#include "tests/sync/land_stand.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <set>

#include "daemon/runtime/check.h"

namespace hermes::sync {
namespace {

constexpr int64_t kNow = 1'800'000'000;

void ReadDir(Fs& fs, int dir, const std::string& prefix, TestTree* tree) {
  std::vector<std::string> names;
  CHECK(fs.List(dir, &names) == 0);
  for (const std::string& name : names) {
    if (name == kPlaceName) continue;
    FileStat stat;
    if (fs.StatAt({dir, name}, &stat) < 0) continue;
    if (stat.type == FileStat::Type::kDirectory) {
      (*tree)[prefix + name + "/"] = {"", stat.mode};
      Handle below(fs, fs.OpenDir(dir, name));
      CHECK(below.valid());
      ReadDir(fs, below.get(), prefix + name + "/", tree);
    } else if (stat.type == FileStat::Type::kFile) {
      Handle file(fs, fs.OpenFile({dir, name}, Fs::Access::kRead));
      CHECK(file.valid());
      std::string text(stat.size, '\0');
      CHECK(fs.Read(file.get(), 0, text.data(), text.size()) == static_cast<int64_t>(text.size()));
      (*tree)[prefix + name] = {text, stat.mode};
    }
  }
}

int WriteNew(Fs& fs, int dir, const std::string& name, const TestFile& file) {
  Handle handle(fs, fs.OpenFile({dir, name}, Fs::Access::kCreate));
  if (!handle.valid()) return handle.get();
  if (int rc = fs.Write(handle.get(), 0, file.text); rc < 0) return rc;
  return fs.Chmod(handle.get(), file.mode);
}

// Something of every kind, and a file whose bits are private.
Scenario Mixed() {
  return {"mixed",
          {{"replaced", {"one"}},
           {"secret", {"old secret", 0600}},
           {"tool", {"#!/bin/sh\n", 0755}},
           {"deleted", {"gone soon"}},
           {"kept", {"never touched"}},
           {"dir/", {"", 0755}},
           {"dir/replaced", {"two"}},
           {"old/", {"", 0711}},
           {"old/deep/", {"", 0750}},
           {"old/deep/deleted", {"three"}}},
          {{"replaced", {"1, longer than before"}},
           {"secret", {"new secret", 0600}},
           {"tool", {"#!/bin/sh\n", 0644}},
           {"kept", {"never touched"}},
           {"dir/replaced", {"2"}},
           {"dir/created", {"4"}},
           {"new/deep/created", {"5", 0755}}}};
}

// Files that become directories, and directories that become files.
Scenario Turned() {
  return {"turned",
          {{"x", {"a file"}},
           {"p/", {"", 0755}},
           {"p/q/", {"", 0700}},
           {"p/q/r", {"deep"}},
           {"p/s", {"beside"}}},
          {{"x/y/z", {"now below"}}, {"p", {"now a file"}}}};
}

// More directories than are synced one by one.
Scenario Wide() {
  Scenario wide{"wide", {}, {}};
  for (int i = 0; i < 12; ++i) {
    std::string dir = "dir" + std::to_string(i);
    wide.before[dir + "/"] = {"", 0755};
    wide.before[dir + "/file"] = {"old " + dir};
    wide.after[dir + "/file"] = {"new " + dir};
  }
  return wide;
}

}  // namespace

MaybeContent ContentOf(const TestTree& tree, const std::string& path) {
  auto found = tree.find(path);
  if (found == tree.end()) return std::nullopt;
  const TestFile& file = found->second;
  return Content{DigestOf(file.text), file.text.size(), (file.mode & 0100) != 0};
}

TestTree ReadTree(Fs& fs, int root) {
  TestTree tree;
  Handle dir(fs, fs.OpenDir(root, ""));
  ReadDir(fs, dir.get(), "", &tree);
  return tree;
}

TestTree FilesOf(const TestTree& tree) {
  TestTree files = tree;
  std::erase_if(files, [](const auto& entry) { return entry.first.ends_with('/'); });
  return files;
}

std::string Describe(const TestTree& tree) {
  std::string text;
  for (const auto& [path, file] : tree) {
    char mode[16];
    std::snprintf(mode, sizeof(mode), "%o", file.mode);
    text += path + " " + mode + " " + file.text + "\n";
  }
  return text;
}

void PutFile(Fs& fs, int root, const std::string& path, const TestFile& file) {
  Parents parents(fs, root, {}, 0755);
  int dir = parents.Open(ParentOf(path), Parents::Missing::kMake);
  CHECK(dir >= 0 && WriteNew(fs, dir, std::string(LeafOf(path)), file) == 0);
}

void PutTree(Fs& fs, int root, const TestTree& tree) {
  for (const auto& [path, file] : tree) {
    if (!path.ends_with('/')) {
      PutFile(fs, root, path, file);
      continue;
    }
    Parents parents(fs, root, {}, file.mode);
    CHECK(parents.Open(path.substr(0, path.size() - 1), Parents::Missing::kMake) >= 0);
  }
}

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> all = {Mixed(), Turned(), Wide()};
  return all;
}

absl::StatusOr<Staged> StageAll(Fs& fs, Landing& landing, const TestTree& before,
                                const TestTree& after, const std::string& id) {
  auto stage = landing.NewStage(id, 0);
  if (!stage.ok()) return stage.status();
  std::set<std::string> paths;
  for (const auto& [path, file] : FilesOf(before)) paths.insert(path);
  for (const auto& [path, file] : FilesOf(after)) paths.insert(path);
  std::vector<Change> changes;
  for (const std::string& path : paths) {
    Change change{*RelPath::Parse(path), ContentOf(before, path), ContentOf(after, path), ""};
    if (change.from == change.to) continue;
    if (change.to) {
      change.slot = std::to_string(changes.size());
      int rc = WriteNew(fs, stage->files(), change.slot, {after.at(path).text, 0600});
      if (rc < 0) return FsError(rc, "stage");
    }
    changes.push_back(std::move(change));
  }
  return Staged{*std::move(stage), std::move(changes)};
}

absl::StatusOr<LandReport> LandAll(Fs& fs, int root, const TestTree& before, const TestTree& after,
                                   const std::string& id) {
  Landing landing(fs, root);
  auto staged = StageAll(fs, landing, before, after, id);
  if (!staged.ok()) return staged.status();
  return landing.Land(std::move(staged->stage), std::move(staged->changes), kNow);
}

RealRoot::RealRoot(Where where) {
  constexpr char kMemory[] = "/dev/shm/";
  bool in_memory = where == Where::kMemory && access(kMemory, W_OK) == 0;
  std::string name = (in_memory ? kMemory : ::testing::TempDir()) + "hermes-land-XXXXXX";
  CHECK(mkdtemp(name.data()) != nullptr);
  path_ = name;
  root_ = Handle(fs_, ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(root_.valid());
}

RealRoot::~RealRoot() { std::filesystem::remove_all(path_); }

LandResult ResultOf(const LandReport& report, const std::string& path) {
  for (const LandResult& result : report.results) {
    if (result.path.str() == path) return result;
  }
  ADD_FAILURE() << "no result of " << path;
  return {*RelPath::Parse("none"), Outcome::kFailed, false, false, {}};
}

}  // namespace hermes::sync
