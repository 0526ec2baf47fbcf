#pragma once

// Mount: a directory or file of the host and its twin in the sandbox, with the rules for what moves
// between them; and MountTable, all mounts of one session. Pure values: whether a host root is fit
// is HostRoot's question.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sync/rel_path.h"

namespace hermes::sync {

inline constexpr size_t kMaxMounts = 64;  // of one session; one more is BAD_FIELD
inline constexpr uint64_t kDefaultMaxFiles = 20'000;
// The most that a request may ask for, and the most that a far end may list: what a push has sent
// must be found again by a pull.
inline constexpr uint64_t kMostMountFiles = 200'000;
inline constexpr uint64_t kDefaultMaxBytes = 2ull << 30;
inline constexpr uint64_t kDefaultMaxFileBytes = 256ull << 20;

enum class MountKind { kAny, kDirectory, kFile };  // kAny: HostRoot::Open finds out
enum class Policy { kPush, kPull, kTwoWay };
// Whose version stands where both sides changed. The other one is kept, never lost.
enum class ConflictPolicy { kRemote, kHost, kBoth, kAbort };
// What a deletion in the sandbox does to the host's unchanged file: deletes it (unless the guard
// holds it back), nothing and silently, or nothing but a report.
enum class DeletePolicy { kGuarded, kNever, kReport };
// Links of the host: left alone, followed to a file inside the root, or followed anywhere. What is
// followed travels as the target's bytes.
enum class LinkPolicy { kSkip, kInside, kFollowHost };

struct Mount {
  std::string id;           // unique in its table; empty: the table makes one of remote_root
  std::string host_root;    // absolute
  std::string remote_root;  // absolute, or below the remote home: "~/..."
  std::string beneath;      // not empty: host_root must resolve to something below this directory
  MountKind kind = MountKind::kAny;
  Policy policy = Policy::kTwoWay;
  ConflictPolicy conflict = ConflictPolicy::kRemote;
  DeletePolicy deletes = DeletePolicy::kGuarded;
  LinkPolicy links = LinkPolicy::kSkip;
  std::vector<std::string> ignore;  // see IgnoreList; of a file mount it says nothing
  bool secrets = false;             // CheckedMount shall not add SecretPatterns to `ignore`
  uint64_t max_files = kDefaultMaxFiles;
  uint64_t max_bytes = kDefaultMaxBytes;           // of all files together
  uint64_t max_file_bytes = kDefaultMaxFileBytes;  // a bigger file is an oddity

  bool WritesHost() const { return policy != Policy::kPush; }
  bool WritesRemote() const { return policy != Policy::kPull; }
  bool operator==(const Mount&) const = default;
};

// The mount with its paths in normal form, and with SecretPatterns among what it ignores, unless it
// wants them or is one file, which somebody has named. BAD_FIELD: paths that are not absolute or
// have empty, "." or ".." parts, a root or home itself, rules that contradict each other, limits
// of 0.
absl::StatusOr<Mount> CheckedMount(Mount mount);

// BAD_FIELD: with "~" as the far side says, remote roots of one session overlap, which their texts
// alone did not show. `home` may be anything: what is no absolute path says nothing.
absl::Status CheckFarApart(const std::vector<Mount>& mounts, std::string_view home);

// Files that are named like secrets do not travel.
bool WithholdsSecrets(const Mount& mount);

// The opt-in profile "hermes": skills and cache two-way, the named credential files push-only.
struct HermesProfile {
  std::string home;  // absolute: the agent's home on the host
  std::string remote_home = "~/.hermes";
  std::vector<std::string> credentials;  // below `home`
  bool secrets = false;                  // Mount::secrets, of skills and cache
};
absl::StatusOr<std::vector<Mount>> ExpandProfile(const HermesProfile& profile);

class MountTable {
 public:
  // BAD_FIELD: duplicate ids, remote roots that overlap, host roots that overlap where a pull would
  // write into one, too many mounts. The error names the mount by its place:
  // "mounts[2].remote_root". What "~" is over there only the far side knows: see CheckFarApart.
  static absl::StatusOr<MountTable> Make(std::vector<Mount> mounts);

  const std::vector<Mount>& mounts() const { return mounts_; }

 private:
  std::vector<Mount> mounts_;
};

}  // namespace hermes::sync
