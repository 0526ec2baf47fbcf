#include "tests/sync/bundle_stand.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <utility>

#include <asio/co_spawn.hpp>

#include "daemon/runtime/status.h"
#include "tests/sync/hostile_corpus.h"
#include "tests/sync/process.h"

namespace hermes::sync {
namespace fs = std::filesystem;

Task<absl::StatusOr<std::string>> ScriptedSource::Read() {
  if (at_ == bytes_.size() && then_ == Then::kRepeat) at_ = 0;
  if (at_ < bytes_.size()) {
    std::string part = bytes_.substr(at_, piece_);
    at_ += part.size();
    co_return part;
  }
  if (then_ == Then::kFail) {
    co_return Error(Reason::k_BACKEND_UNREACHABLE, "the connection is gone");
  }
  co_return std::string();
}

BundleStand::BundleStand() {
  signal(SIGPIPE, SIG_IGN);
  auto below = [this](const char* name) { return dir_.path() + "/" + name; };
  Spit(below("outside/secret"), "do not touch");
  Spit(below("mount/first"), "old");
  Spit(below("mount/last/file"), "a directory where a file comes");
  fs::create_symlink("../outside", below("mount/lnk"));
  fs::create_hard_link(below("outside/secret"), below("mount/b"));
  EXPECT_EQ(mkfifo(below("mount/a").c_str(), 0600), 0);
  fs::create_directories(below("mount/.stage"));
  fs::create_directories(below("quarantine"));
  stage_.reset(open(below("mount/.stage").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  quarantine_.reset(open(below("quarantine").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

BundleSpec BundleStand::SpecFor(const std::vector<std::string>& names) const {
  BundleSpec spec{.program = FindUnpack(),
                  .fs = &fs_,
                  .stage = stage_.get(),
                  .quarantine_fd = quarantine_.get(),
                  .quarantine_name = "stream",
                  .max_total_bytes = kCorpusMaxTotal,
                  .max_members = kCorpusMaxMembers};
  for (const std::string& name : names) {
    spec.wanted.push_back({*RelPath::Parse(name), kCorpusMaxFile});
  }
  return spec;
}

Task<absl::StatusOr<BundleResult>> BundleStand::Transfer(BundleSpec spec) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<Bundle> bundle,
                      Bundle::Start(loop_, clock_, workers_, std::move(spec)));
  absl::Status stream;
  while (stream.ok()) {
    absl::StatusOr<std::string> bytes = co_await source_->Read();
    stream = bytes.status();
    if (!bytes.ok() || bytes->empty()) break;
    stream = co_await bundle->Feed(*bytes);
  }
  co_return co_await bundle->Finish(std::move(stream));
}

absl::StatusOr<BundleResult> BundleStand::Receive(BundleSpec spec, std::string bytes, How how) {
  source_.emplace(std::move(bytes), how.piece, how.then);
  std::optional<absl::StatusOr<BundleResult>> result;
  asio::co_spawn(loop_.executor(), Transfer(std::move(spec)),
                 [&](std::exception_ptr failed, absl::StatusOr<BundleResult> got) {
                   if (failed) std::rethrow_exception(failed);
                   result = std::move(got);
                   loop_.Stop();
                 });
  loop_.Run();
  return *std::move(result);
}

std::map<std::string, std::string> BundleStand::staged() const {
  return FilesBelow(path() + "/mount/.stage");
}

std::map<std::string, std::string> BundleStand::quarantined() const {
  return FilesBelow(path() + "/quarantine");
}

std::string BundleStand::Outside() const {
  std::vector<std::string> lines;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path())) {
    const std::string name = entry.path().lexically_relative(path()).string();
    if (name.starts_with("mount/.stage/") || name.starts_with("quarantine/")) continue;
    struct stat about{};
    EXPECT_EQ(lstat(entry.path().c_str(), &about), 0);
    std::string line = name + " " + std::to_string(about.st_mode) + " " +
                       std::to_string(about.st_ino) + " " + std::to_string(about.st_nlink);
    if (S_ISREG(about.st_mode)) line += " " + Slurp(entry.path());
    lines.push_back(line);
  }
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

}  // namespace hermes::sync
