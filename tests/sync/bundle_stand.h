#pragma once

// A real loop, real workers, a stage, a quarantine and things planted around them, for tests that
// send streams through the real hermes-unpack.

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/runtime/clock.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/workers.h"
#include "sync/bundle.h"
#include "sync/real_fs.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::sync {

// Gives its pieces, then ends, fails or begins again.
class ScriptedSource {
 public:
  enum class Then { kEnd, kFail, kRepeat };
  ScriptedSource(std::string bytes, size_t piece, Then then)
      : bytes_(std::move(bytes)), piece_(piece), then_(then) {}
  Task<absl::StatusOr<std::string>> Read();

 private:
  const std::string bytes_;
  const size_t piece_;
  const Then then_;
  size_t at_ = 0;
};

struct How {
  size_t piece = 10'000;
  ScriptedSource::Then then = ScriptedSource::Then::kEnd;
};

class BundleStand {
 public:
  BundleStand();

  BundleSpec SpecFor(const std::vector<std::string>& names) const;  // with the corpus' limits
  absl::StatusOr<BundleResult> Receive(BundleSpec spec, std::string bytes, How how = {});

  // name -> content of what is in the stage or the quarantine.
  std::map<std::string, std::string> staged() const;
  std::map<std::string, std::string> quarantined() const;
  // What must never change: every planted thing with its type, its links and its content.
  std::string Outside() const;
  const std::string& path() const { return dir_.path(); }
  const std::optional<ScriptedSource>& source() const { return source_; }  // of the last Receive

 private:
  Task<absl::StatusOr<BundleResult>> Transfer(BundleSpec spec);

  TempDir dir_;
  Loop loop_;
  SystemClock clock_{loop_};
  ThreadWorkers workers_{loop_, 2};
  mutable RealFs fs_;
  Fd stage_;
  Fd quarantine_;
  std::optional<ScriptedSource> source_;
};

}  // namespace hermes::sync
