#pragma once

// What RemoteTrees of both levels do alike. Loop thread.

#include <cstdint>

#include "backends/backend.h"
#include "backends/engine/far_talk.h"
#include "sync/remote_tree.h"
#include "sync/tar_join.h"

namespace hermes {

struct SentFile {
  bool whole = false;   // the source says that it is a version of the file
  sync::Digest digest;  // of the bytes that went out
};

// Exactly `size` bytes go out, whatever the source gives. All outlive the call.
Task<SentFile> SendFile(FarTalk* talk, sync::BlobSource* source, size_t index, uint64_t size);

// One fetch: what comes over one or several streams goes on as one archive.
struct Fetching {
  sync::TarJoin join;
  FarPace pace;
  sync::RemoteTree::TakeBytes take;
};
// Asks for one part of it. BACKEND_UNREACHABLE: its archive was cut short. All outlive the call.
Task<absl::Status> FetchPart(FarTalk* talk, sync::FarAnswer* answer, Fetching* fetching);

// A file whose time is not known was changed now.
void FillTimes(Clock& clock, sync::RemoteApply* apply);

Lane LaneFor(const sync::RemoteApply& apply);
Lane LaneFor(const sync::RemoteTree::Wanted& wanted);

// A far end may tell of oddities where nothing counts.
void DropIgnored(const sync::RemoteRoot& root, sync::RemoteLook* look);

}  // namespace hermes
