#pragma once

// Bundle: one tar stream in which a place sends the files that it was asked for. It is fed to
// hermes-unpack, a confined program of its own; what that says is taken as hostile, too; the wanted
// files end up in a stage directory. Nothing is landed here. Loop thread; blocking work goes to the
// workers.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/workers.h"
#include "sync/fs.h"
#include "sync/rel_path.h"
#include "sync/stage_files.h"
#include "sync/unpack/wire.h"

namespace hermes::sync {

struct WantedFile {
  RelPath path;
  uint64_t max_bytes = 0;  // longer: an oddity, skipped
};

// Without a byte in or out for so long hermes-unpack is ended. More than any far end may be silent:
// whoever reads the stream gives that up first, and knows that it is worth another try.
inline constexpr Duration kMaxBundleIdle = std::chrono::seconds(360);

struct BundleSpec {
  std::string program;             // hermes-unpack, see FindUnpack
  std::vector<WantedFile> wanted;  // no path twice
  Fs* fs = nullptr;                // of the stage: must be given; outlives the call
  int stage = -1;                  // a directory of it, as long
  uint32_t first_slot = 0;         // names in the stage begin here: nothing has this one or more
  // The beginning of a stream that lied is kept under this name in this directory (-1: nowhere).
  int quarantine_fd = -1;
  std::string quarantine_name = {};
  uint64_t max_quarantine_bytes = 64 << 20;  // the rest is not kept
  uint64_t max_total_bytes = 2ull << 30;     // more: a lie
  uint32_t max_members = 20'000;             // more: a lie
  Duration max_idle = kMaxBundleIdle;
  bool salvage = false;  // of a stream that lies, keep the members that are in order
  // Of a stream that broke on its way, keep the members that had come whole: see `broke`.
  bool keep_whole = false;
  // Files and bytes staged so far; on the loop, must not end the transfer from within.
  std::function<void(uint32_t files, uint64_t bytes)> on_progress = nullptr;
  // No more of the stream is wanted, be it at its end or before; on the loop, must not end the
  // transfer from within.
  std::function<void()> on_stopped = nullptr;
};

struct BundleResult {
  std::vector<StagedFile> staged;  // in the stage directory as StagedName(index, first_slot)
  absl::Status broke;              // not OK: the stream did, before all that is missing could come
  std::vector<unpack::Odd> oddities;
  std::vector<uint32_t> missing;  // wanted, and not in the stream: gone meanwhile
  // Not empty: the place lied. Then nothing is staged but what salvage keeps. Where every lie
  // IsLimit, the tree may merely be too large.
  std::vector<unpack::Lie> lies;
  bool quarantined = false;
  unpack::Hello confinement;  // the layers that were on
};

class Bundle {
 public:
  // Starts hermes-unpack. SYNC_FAILED: it cannot be started.
  static absl::StatusOr<std::unique_ptr<Bundle>> Start(Loop& loop, Clock& clock, Workers& workers,
                                                       BundleSpec spec);
  ~Bundle();  // after Finish has returned

  // The next bytes, which stay until it returns; one call at a time. An error: nothing more is
  // wanted; Finish says why.
  Task<absl::Status> Feed(std::string_view bytes);

  // Once, in any case. `stream` is how the stream ended on its way: its error is the result, unless
  // there is a lie or a failure of our own. Failures leave the stage directory as it was:
  // SYNC_FAILED (the archive is cut or none, or stood still), DISK_FULL. Names in the result are
  // any bytes and must be escaped wherever they are shown; messages hold none.
  Task<absl::StatusOr<BundleResult>> Finish(absl::Status stream);

 private:
  class Receiver;
  explicit Bundle(std::unique_ptr<Receiver> receiver);
  std::unique_ptr<Receiver> receiver_;
};

// hermes-unpack beside the running program, or in ../libexec/hermesd; empty: there is none.
std::string FindUnpack();

// "no new privileges, limits, landlock 4, seccomp": for people.
std::string DescribeConfinement(const unpack::Hello& hello);

}  // namespace hermes::sync
