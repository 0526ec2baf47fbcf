#pragma once

// The file service of the real program, driven through pipes, and what it should say of a tree:
// found out by the daemon's own code.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "backends/engine/frames.h"
#include "backends/runner/files.h"
#include "sync/far_answer.h"
#include "sync/manifest.h"
#include "tests/runner/harness.h"

namespace hermes::test {

inline constexpr std::string_view kMark = "@0123456789abcdef";
inline constexpr std::string_view kToken = "00112233445566778899aabbccddeeff";

struct FilesEnd {
  std::string out;
  int status = -1;  // exit code, -1 for a signal
};

// Runs `argv` with this stdin to its end.
inline FilesEnd RunFiles(std::string_view input, std::vector<std::string> argv = {}) {
  if (argv.empty()) argv = {RunnerProgram(), "files"};
  int in[2], out[2];
  EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
  EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  std::vector<char*> words;
  for (std::string& word : argv) words.push_back(word.data());
  words.push_back(nullptr);
  pid_t pid = 0;
  EXPECT_EQ(posix_spawn(&pid, words[0], &actions, nullptr, words.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  std::thread feeder([&] {
    signal(SIGPIPE, SIG_IGN);
    for (std::string_view rest = input; !rest.empty();) {
      ssize_t n = write(in[1], rest.data(), rest.size());
      if (n <= 0) break;
      rest.remove_prefix(static_cast<size_t>(n));
    }
    close(in[1]);
  });
  FilesEnd end;
  char buffer[1 << 16];
  for (ssize_t n; (n = read(out[0], buffer, sizeof buffer)) > 0;)
    end.out.append(buffer, static_cast<size_t>(n));
  close(out[0]);
  feeder.join();
  int status = 0;
  waitpid(pid, &status, 0);
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return end;
}

struct FilesScope {
  std::string root;
  std::string only = {};
  std::vector<std::string> ignore = {};
  uint64_t max_file_bytes = UINT64_MAX;
  std::string known_epoch = {};  // of an apply
};

// A request without what comes behind it.
template <typename Fill>
std::string FilesRequest(runner::FilesVerb verb, const FilesScope& scope, Fill fill) {
  std::string body;
  frames::Writer writer(body);
  writer.U8(static_cast<uint8_t>(verb));
  writer.Str(kMark);
  writer.Str(scope.root);
  writer.Str(scope.only);
  writer.U32(static_cast<uint32_t>(scope.ignore.size()));
  for (const std::string& pattern : scope.ignore) writer.Str(pattern);
  writer.U64(scope.max_file_bytes);
  fill(writer);
  std::string request;
  frames::Writer(request).U32(static_cast<uint32_t>(body.size()));
  return request + body;
}

inline std::string LookRequest(const FilesScope& scope, std::string_view expected = "") {
  return FilesRequest(runner::FilesVerb::kLook, scope, [&](frames::Writer& w) { w.Str(expected); });
}

inline std::string FetchRequest(const FilesScope& scope, const std::vector<std::string>& names) {
  return FilesRequest(runner::FilesVerb::kFetch, scope, [&](frames::Writer& w) {
    w.U32(static_cast<uint32_t>(names.size()));
    for (const std::string& name : names) w.Str(name);
  });
}

struct FilesChange {
  std::string name;
  std::string expected = {};  // as the request spells it
  std::optional<std::string> bytes = {};
  bool executable = false;
  bool good = true;
  std::optional<uint32_t> same_as = {};  // its bytes do not go out
  uint64_t time_s = 1'700'000'000;
};

inline std::string Spelled(std::string_view bytes, bool executable = false) {
  return sync::Hex(sync::DigestOf(bytes)) + (executable ? "x" : "-");
}

inline std::string ApplyRequest(const FilesScope& scope, const std::vector<FilesChange>& changes,
                                bool secret = false) {
  std::string request = FilesRequest(runner::FilesVerb::kApply, scope, [&](frames::Writer& w) {
    w.Str(kToken);
    w.Str(scope.known_epoch);
    w.U8(secret ? 1 : 0);
    w.U32(static_cast<uint32_t>(changes.size()));
    for (const FilesChange& change : changes) {
      w.Str(change.name);
      w.Str(change.expected);
      w.U8(!change.bytes ? 0 : change.same_as ? 2 : 1);
      if (!change.bytes) continue;
      w.U64(change.bytes->size());
      w.U8(change.executable ? 1 : 0);
      w.U64(change.time_s);
      if (change.same_as) w.U32(*change.same_as);
    }
  });
  for (const FilesChange& change : changes) {
    if (!change.bytes || change.same_as) continue;
    request += *change.bytes;
    request += change.good ? '\1' : '\0';
    const sync::Digest digest = sync::DigestOf(*change.bytes);
    request.append(digest.bytes.begin(), digest.bytes.end());
  }
  return request;
}

class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hermes-files-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory = name;
    scope.root = root = directory + "/root";
    std::filesystem::create_directory(root);
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  void Put(const std::string& name, std::string_view bytes, bool executable = false) {
    const std::string path = root + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    ASSERT_EQ(chmod(path.c_str(), executable ? 0755 : 0644), 0);
  }
  std::optional<std::string> Get(const std::string& name) const {
    struct stat facts;
    if (lstat((root + "/" + name).c_str(), &facts) != 0 || !S_ISREG(facts.st_mode))
      return std::nullopt;
    std::ifstream file(root + "/" + name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  int Mode(const std::string& name) const {
    struct stat facts{};
    EXPECT_EQ(lstat((root + "/" + name).c_str(), &facts), 0) << name;
    return facts.st_mode & 07777;
  }
  // Nothing of ours is left but the token.
  void ExpectNoStage() const {
    for (const std::string& place : {directory, root}) {
      if (!std::filesystem::exists(place)) continue;
      for (const auto& entry : std::filesystem::directory_iterator(place)) {
        EXPECT_FALSE(entry.path().filename().string().starts_with(".hermesd-stage")) << entry;
      }
    }
  }

  static absl::StatusOr<sync::RemoteLook> ParseLook(std::string_view out,
                                                    std::optional<sync::Digest> expected = {}) {
    sync::FarAnswer answer({.verb = sync::FarVerb::kLook,
                            .mark = std::string(kMark),
                            .changes = 0,
                            .max_files = 20'000});
    if (absl::Status fed = answer.Feed(out); !fed.ok()) return fed;
    if (absl::Status whole = answer.Finish(); !whole.ok()) return whole;
    return answer.TakeLook(expected);
  }
  sync::RemoteLook Look() const {
    auto look = ParseLook(RunFiles(LookRequest(scope)).out);
    EXPECT_TRUE(look.ok()) << look.status();
    return look.ok() ? *std::move(look) : sync::RemoteLook{};
  }
  // What becomes of each change, by letter.
  std::string ApplyAll(const std::vector<FilesChange>& changes, bool secret = false) {
    last = RunFiles(ApplyRequest(scope, changes, secret));
    sync::FarAnswer answer({.verb = sync::FarVerb::kApply,
                            .mark = std::string(kMark),
                            .changes = changes.size(),
                            .max_files = 0});
    if (absl::Status fed = answer.Feed(last.out); !fed.ok()) return fed.ToString();
    if (absl::Status whole = answer.Finish(); !whole.ok()) return whole.ToString();
    const sync::RemoteApplied applied = answer.TakeApplied();
    old_epoch = applied.epoch;
    std::string letters;
    for (sync::Placed one : applied.placed) letters += static_cast<char>(one);
    ExpectNoStage();
    return letters;
  }

  std::string directory;
  std::string root;
  FilesScope scope;
  FilesEnd last;
  std::string old_epoch;  // as the last apply found it
};

}  // namespace hermes::test
