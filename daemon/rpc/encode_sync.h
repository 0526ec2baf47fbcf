#pragma once

// Mounts and syncs as messages. Pure; messages only, no gRPC.

#include "daemon/core/model.h"
#include "daemon/core/session_store.h"
#include "hermes/v1/session.pb.h"
#include "hermes/v1/sync.pb.h"

namespace hermes {

// The fields `mounts` and `sync` of a session.
void Encode(const SyncSettings& settings, v1::Session* to);

void Encode(const sync::SyncProgress& progress, v1::SyncProgress* to);
void Encode(const sync::SyncEntry& entry, v1::SyncEntry* to);
void Encode(const SyncInfo& info, v1::SyncJob* to);  // without entries
void Encode(const StoredSync& sync, v1::SyncJob* to);

}  // namespace hermes
