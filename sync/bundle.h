#pragma once

// A bundle: the tar stream in which a place sends the files that it was asked for. ReceiveBundle
// feeds it to hermes-unpack, a confined program of its own, takes what that says as hostile, too,
// and leaves the wanted files in a stage directory. Nothing is landed here. Loop thread; blocking
// work goes to the workers.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/workers.h"
#include "sync/rel_path.h"
#include "sync/stage_files.h"
#include "sync/unpack/wire.h"

namespace hermes::sync {

// Where the stream comes from.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next bytes; empty: the end. One call at a time.
  virtual Task<absl::StatusOr<std::string>> Read() = 0;
  // Nothing more is wanted: a Read under way returns soon, with anything.
  virtual void Stop() = 0;
};

struct WantedFile {
  RelPath path;
  uint64_t max_bytes = 0;  // longer: an oddity, skipped
};

struct BundleSpec {
  std::string program;             // hermes-unpack, see FindUnpack
  std::vector<WantedFile> wanted;  // no path twice
  int stage_fd = -1;               // an empty directory; outlives the call
  // The beginning of a stream that lied is kept under this name in this directory (-1: nowhere).
  int quarantine_fd = -1;
  std::string quarantine_name = {};
  uint64_t max_quarantine_bytes = 64 << 20;       // the rest is not kept
  uint64_t max_total_bytes = 2ull << 30;          // more: a lie
  uint32_t max_members = 20'000;                  // more: a lie
  Duration max_idle = std::chrono::seconds(120);  // without a byte in or out: it is ended
  bool salvage = false;  // of a stream that lies, keep the members that are in order
  // Files and bytes staged so far; on the loop, must not end the transfer from within.
  std::function<void(uint32_t files, uint64_t bytes)> on_progress = nullptr;
};

struct BundleResult {
  std::vector<StagedFile> staged;  // in the stage directory as StagedName(index)
  std::vector<unpack::Odd> oddities;
  std::vector<uint32_t> missing;  // wanted, and not in the stream: gone meanwhile
  // Not empty: the place lied. Then nothing is staged but what salvage keeps.
  std::vector<unpack::Lie> lies;
  uint64_t dropped_notes = 0;  // oddities and lies beyond what is listed
  bool quarantined = false;
  unpack::Hello confinement;  // the layers that were on
};

// Failures leave the stage directory as it was: SYNC_FAILED (the stream was cut, is no archive,
// stood still; the program cannot be started), DISK_FULL, the source's own. Names in the result
// are any bytes and must be escaped wherever they are shown; messages hold none.
Task<absl::StatusOr<BundleResult>> ReceiveBundle(Loop& loop, Clock& clock, Workers& workers,
                                                 BundleSpec spec, ByteSource& source);

// hermes-unpack beside the running program, or in ../libexec/hermesd; empty: there is none.
std::string FindUnpack();

// "no new privileges, limits, landlock 4, seccomp": for people.
std::string DescribeConfinement(const unpack::Hello& hello);

}  // namespace hermes::sync
