#include "daemon/core/codec.h"

#include <algorithm>
#include <concepts>
#include <limits>
#include <type_traits>
#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr char kVersion = 1;
constexpr size_t kSealBytes = 1 + 4;
constexpr size_t kMaxVarint = 10;  // bytes of a 64-bit number

// Encoder and Decoder have the same methods, so that one list of fields serves both ways.

class Encoder {
 public:
  static constexpr bool kReads = false;

  void Number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<char>(value | 0x80));
    out_.push_back(static_cast<char>(value));
  }
  void Text(std::string_view text) {
    Number(text.size());
    out_.append(text);
  }
  template <typename Fill>
  void Nested(Fill fill) {
    Encoder inner;
    fill(inner);
    Text(inner.out_);
  }
  std::string Take() && { return std::move(out_); }

 private:
  std::string out_;
};

// After the last byte every method leaves its argument alone; after damage, too.
class Decoder {
 public:
  static constexpr bool kReads = true;

  explicit Decoder(std::string_view in) : in_(in) {}
  bool ok() const { return ok_; }
  size_t left() const { return in_.size(); }
  void Fail() {
    ok_ = false;
    in_ = {};
  }

  void Number(uint64_t& value) {
    if (in_.empty()) return;
    uint64_t sum = 0;
    for (size_t i = 0; i < std::min(kMaxVarint, in_.size()); ++i) {
      const uint64_t byte = static_cast<unsigned char>(in_[i]);
      sum |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) {
        in_.remove_prefix(i + 1);
        value = sum;
        return;
      }
    }
    Fail();
  }
  void Text(std::string& text) {
    std::string_view slice;
    if (Slice(slice)) text = slice;
  }
  template <typename Fill>
  void Nested(Fill fill) {
    std::string_view slice;
    if (!Slice(slice)) return;
    Decoder inner(slice);
    fill(inner);
    if (!inner.ok()) Fail();
  }

 private:
  bool Slice(std::string_view& slice) {
    if (in_.empty()) return false;
    uint64_t size = 0;
    Number(size);
    if (size > in_.size()) Fail();
    if (!ok_) return false;
    slice = in_.substr(0, size);
    in_.remove_prefix(size);
    return true;
  }

  std::string_view in_;
  bool ok_ = true;
};

// S is T or const T: the same function reads and writes.
template <typename S, typename T>
concept Is = std::same_as<std::remove_const_t<S>, T>;

// Whole numbers and bools that fit; a decoded one that does not fit its type is damage.
template <typename A, typename S>
  requires std::unsigned_integral<std::remove_const_t<S>>
void Field(A& a, S& value) {
  uint64_t wide = value;
  a.Number(wide);
  if constexpr (A::kReads) {
    if (wide > std::numeric_limits<S>::max()) return a.Fail();
    value = static_cast<S>(wide);
  }
}

template <typename A, typename S>
  requires std::signed_integral<std::remove_const_t<S>>
void Field(A& a, S& value) {
  const int64_t before = value;
  uint64_t wide = (static_cast<uint64_t>(before) << 1) ^ static_cast<uint64_t>(before >> 63);
  a.Number(wide);
  if constexpr (A::kReads) {
    const int64_t after = static_cast<int64_t>(wide >> 1) ^ -static_cast<int64_t>(wide & 1);
    if (after > std::numeric_limits<S>::max() || after < std::numeric_limits<S>::min()) {
      return a.Fail();
    }
    value = static_cast<S>(after);
  }
}

template <typename A, typename S>
void EnumField(A& a, S& value, std::remove_const_t<S> last) {
  uint64_t wide = static_cast<uint64_t>(value);
  a.Number(wide);
  if constexpr (A::kReads) {
    if (wide > static_cast<uint64_t>(last)) return a.Fail();
    value = static_cast<S>(wide);
  }
}

template <typename A, Is<std::string> S>
void Field(A& a, S& text) {
  a.Text(text);
}

template <typename A, Is<Duration> S>
void Field(A& a, S& duration) {
  int64_t count = duration.count();
  Field(a, count);
  if constexpr (A::kReads) duration = Duration(count);
}

template <typename A, Is<WallTime> S>
void Field(A& a, S& time) {
  int64_t count = time.time_since_epoch().count();
  Field(a, count);
  if constexpr (A::kReads) time = WallTime(Duration(count));
}

template <typename A, Is<std::pair<std::string, std::string>> S>
void Field(A& a, S& pair) {
  Field(a, pair.first);
  Field(a, pair.second);
}

template <typename A, Is<OutputHole> S>
void Field(A& a, S& hole) {
  Field(a, hole.from);
  Field(a, hole.to);
}

template <typename A, Is<Condition> S>
void Field(A& a, S& condition) {
  Field(a, condition.type);
  Field(a, condition.status);
  Field(a, condition.reason);
  Field(a, condition.message);
  Field(a, condition.since);
}

template <typename A, typename List>
void ListField(A& a, List& list) {
  uint64_t count = list.size();
  a.Number(count);
  if constexpr (A::kReads) {
    list.clear();
    if (count > a.left()) return a.Fail();
    for (; count > 0 && a.left() > 0; --count) {
      a.Nested([&list](A& inner) { Field(inner, list.emplace_back()); });
    }
    if (count > 0) a.Fail();
  } else {
    for (const auto& item : list) a.Nested([&item](A& inner) { Field(inner, item); });
  }
}

template <typename A, Is<Labels> S>
void Field(A& a, S& labels) {
  EnvPairs pairs(labels.begin(), labels.end());
  ListField(a, pairs);
  if constexpr (A::kReads) labels = Labels(pairs.begin(), pairs.end());
}

template <typename A, typename Optional>
void OptionalField(A& a, Optional& optional) {
  bool present = optional.has_value();
  Field(a, present);
  if (!present) return;
  if constexpr (A::kReads) optional.emplace();
  a.Nested([&optional](A& inner) { Field(inner, *optional); });
}

template <typename A, Is<Capabilities> S>
void Field(A& a, S& c) {
  for (auto* flag :
       {&c.split_stderr, &c.merged_order, &c.pty, &c.stdin_stream, &c.survives_daemon,
        &c.remote_deadline, &c.shell_functions, &c.residual_tracking, &c.argv, &c.kill_verified}) {
    Field(a, *flag);
  }
  EnumField(a, c.kill_method, KillMethod::kSandboxStop);
  Field(a, c.max_concurrent_commands);
}

template <typename A, Is<TreeReport> S>
void Field(A& a, S& tree) {
  EnumField(a, tree.method, KillMethod::kSandboxStop);
  Field(a, tree.signalled);
  Field(a, tree.survivors);
  Field(a, tree.verified);
  ListField(a, tree.survivor_pids);
}

template <typename A, Is<Outcome> S>
void Field(A& a, S& outcome) {
  EnumField(a, outcome.state, CommandState::kUnknown);
  EnumField(a, outcome.cause, Cause::kRunnerDied);
  Field(a, outcome.signalled);
  Field(a, outcome.value);
  EnumField(a, outcome.launch_stage, LaunchStage::kAfter);
  Field(a, outcome.launch_errno);
  OptionalField(a, outcome.tree);
  Field(a, outcome.user_us);
  Field(a, outcome.system_us);
  Field(a, outcome.max_rss_bytes);
  Field(a, outcome.residual);
  Field(a, outcome.state_committed);
  Field(a, outcome.state_reason);
  Field(a, outcome.generation);
  Field(a, outcome.cwd);
}

template <typename A, Is<SshSpec> S>
void Field(A& a, S& ssh) {
  Field(a, ssh.host);
  Field(a, ssh.user);
  Field(a, ssh.port);
  Field(a, ssh.key_file);
  Field(a, ssh.host_key);
  EnumField(a, ssh.transport, SshTransportChoice::kLibssh2);
  Field(a, ssh.config_file);
  ListField(a, ssh.options);
}

template <typename A, Is<sync::Mount> S>
void Field(A& a, S& m) {
  Field(a, m.id);
  Field(a, m.host_root);
  Field(a, m.remote_root);
  Field(a, m.beneath);
  EnumField(a, m.kind, sync::MountKind::kFile);
  EnumField(a, m.policy, sync::Policy::kTwoWay);
  EnumField(a, m.conflict, sync::ConflictPolicy::kAbort);
  EnumField(a, m.deletes, sync::DeletePolicy::kReport);
  EnumField(a, m.links, sync::LinkPolicy::kFollowHost);
  ListField(a, m.ignore);
  Field(a, m.max_files);
  Field(a, m.max_bytes);
  Field(a, m.max_file_bytes);
}

template <typename A, Is<SyncSettings> S>
void Field(A& a, S& s) {
  ListField(a, s.mounts);
  EnumField(a, s.on_error, OnSyncError::kRunStale);
  Field(a, s.min_interval);
  Field(a, s.lock_file);
}

template <typename A, Is<SessionInfo> S>
void Field(A& a, S& s) {
  Field(a, s.id);
  Field(a, s.backend);
  EnumField(a, s.state, SessionState::kLost);
  Field(a, s.version);
  Field(a, s.labels);
  Field(a, s.create_time);
  OptionalField(a, s.expire_time);
  Field(a, s.idle_ttl);
  EnumField(a, s.runner, RunnerPolicy::kRequire);
  Field(a, s.first_cwd);
  ListField(a, s.first_env);
  Field(a, s.cwd);
  Field(a, s.generation);
  Field(a, s.incarnation);
  a.Nested([&s](A& inner) { Field(inner, s.capabilities); });
  ListField(a, s.conditions);
  Field(a, s.creator_uid);
  Field(a, s.engine);
  Field(a, s.engine_reason);
  Field(a, s.sandbox_handle);
  Field(a, s.request_id);
  Field(a, s.request_digest);
  Field(a, s.has_secret);
  a.Nested([&s](A& inner) { Field(inner, s.ssh); });
  Field(a, s.place);
  a.Nested([&s](A& inner) { Field(inner, s.sync); });
  Field(a, s.place_key);
  Field(a, s.discard);
}

template <typename A, Is<CommandInfo> S>
void Field(A& a, S& c) {
  Field(a, c.session_id);
  Field(a, c.id);
  Field(a, c.run_id);
  Field(a, c.client_request_id);
  Field(a, c.request_digest);
  EnumField(a, c.state, CommandState::kUnknown);
  OptionalField(a, c.outcome);
  for (auto& offset : c.produced.offset) Field(a, offset);
  Field(a, c.create_time);
  OptionalField(a, c.start_time);
  OptionalField(a, c.end_time);
  Field(a, c.labels);
  Field(a, c.incarnation);
  Field(a, c.residual);
  Field(a, c.pid);
  Field(a, c.summary);
  Field(a, c.creator_uid);
  Field(a, c.has_pty);
  Field(a, c.output.merge_stderr);
  Field(a, c.output.limit_bytes);
  EnumField(a, c.output.overflow, Overflow::kKill);
  Field(a, c.kill_grace);
  Field(a, c.far_id);
  EnumField(a, c.on_disconnect, OnDisconnect::kCancelAfterGrace);
}

template <typename A, Is<sync::Content> S>
void Field(A& a, S& content) {
  std::string digest(content.digest.bytes.begin(), content.digest.bytes.end());
  Field(a, digest);
  if constexpr (A::kReads) {
    if (digest.size() != content.digest.bytes.size()) return a.Fail();
    std::copy(digest.begin(), digest.end(), content.digest.bytes.begin());
  }
  Field(a, content.size);
  Field(a, content.executable);
}

template <typename A, Is<sync::SyncEntry> S>
void Field(A& a, S& e) {
  Field(a, e.mount);
  Field(a, e.path);
  EnumField(a, e.effect, sync::Effect::kKeepCopy);
  EnumField(a, e.fate, sync::Fate::kFailed);
  EnumField(a, e.why, sync::Why::kGone);
  Field(a, e.size);
  OptionalField(a, e.host);
  OptionalField(a, e.remote);
  Field(a, e.aside);
  Field(a, e.note);
}

template <typename A, Is<std::vector<sync::SyncEntry>> S>
void Field(A& a, S& entries) {
  ListField(a, entries);
}

template <typename A, Is<sync::SyncReport> S>
void Field(A& a, S& r) {
  for (auto* count : {&r.counts.applied, &r.counts.conflicts, &r.counts.rejected, &r.counts.held,
                      &r.counts.failed, &r.unsaved}) {
    Field(a, *count);
  }
  Field(a, r.counts.bytes);
  Field(a, r.suspect);
  Field(a, r.revertible);
}

template <typename A, Is<SyncInfo> S>
void Field(A& a, S& s) {
  Field(a, s.session_id);
  Field(a, s.id);
  EnumField(a, s.kind, SyncKind::kRevert);
  EnumField(a, s.state, SyncState::kInterrupted);
  Field(a, s.reason);
  Field(a, s.message);
  for (auto* number : {&s.progress.files_done, &s.progress.files_total, &s.progress.bytes_done,
                       &s.progress.bytes_total, &s.entries_total}) {
    Field(a, *number);
  }
  a.Nested([&s](A& inner) { Field(inner, s.report); });
  Field(a, s.of_sync);
  Field(a, s.create_time);
  OptionalField(a, s.end_time);
  OptionalField(a, s.expire_time);
  Field(a, s.creator_uid);
  Field(a, s.request_id);
  Field(a, s.request_digest);
}

template <typename A, Is<OutputLog::StreamState> S>
void Field(A& a, S& stream) {
  Field(a, stream.end);
  ListField(a, stream.holes);
  Field(a, stream.in_file);
}

template <typename A, Is<StoredCommand> S>
void Field(A& a, S& command) {
  a.Nested([&command](A& inner) { Field(inner, command.info); });
  for (auto& stream : command.output.stream) {
    a.Nested([&stream](A& inner) { Field(inner, stream); });
  }
  Field(a, command.forgotten);
  Field(a, command.output_expired);
}

uint32_t Checksum(std::string_view body) {
  uint32_t hash = 0x811c9dc5;
  for (const char byte : body) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x01000193;
  return hash;
}

template <typename T>
std::string Encode(const T& value) {
  Encoder encoder;
  Field(encoder, value);
  return SealBlob(std::move(encoder).Take());
}

template <typename T>
absl::StatusOr<T> Decode(std::string_view blob) {
  ASSIGN_OR_RETURN(const std::string_view body, UnsealBlob(blob));
  T value;
  Decoder decoder(body);
  Field(decoder, value);
  if (!decoder.ok()) return Error(Reason::k_STORE_CORRUPT, "a stored record is malformed");
  return value;
}

}  // namespace

std::string SealBlob(std::string_view body) {
  const uint32_t sum = Checksum(body);
  std::string blob(1, kVersion);
  for (int shift = 0; shift < 32; shift += 8) blob.push_back(static_cast<char>(sum >> shift));
  return blob.append(body);
}

absl::StatusOr<std::string_view> UnsealBlob(std::string_view blob) {
  if (blob.size() < kSealBytes) return Error(Reason::k_STORE_CORRUPT, "a stored record is cut off");
  if (blob[0] != kVersion) {
    return Error(Reason::k_STORE_CORRUPT, "a stored record has an unknown version");
  }
  uint32_t sum = 0;
  for (int i = 0; i < 4; ++i) sum |= uint32_t{static_cast<unsigned char>(blob[1 + i])} << (8 * i);
  blob.remove_prefix(kSealBytes);
  if (sum != Checksum(blob)) return Error(Reason::k_STORE_CORRUPT, "a stored record is damaged");
  return blob;
}

std::string EncodeSession(const SessionInfo& session) { return Encode(session); }
absl::StatusOr<SessionInfo> DecodeSession(std::string_view blob) {
  return Decode<SessionInfo>(blob);
}
std::string EncodeCommand(const StoredCommand& command) { return Encode(command); }
absl::StatusOr<StoredCommand> DecodeCommand(std::string_view blob) {
  return Decode<StoredCommand>(blob);
}
std::string EncodeSync(const SyncInfo& sync) { return Encode(sync); }
absl::StatusOr<SyncInfo> DecodeSync(std::string_view blob) { return Decode<SyncInfo>(blob); }
std::string EncodeSyncEntries(const std::vector<sync::SyncEntry>& entries) {
  return Encode(entries);
}
absl::StatusOr<std::vector<sync::SyncEntry>> DecodeSyncEntries(std::string_view blob) {
  return Decode<std::vector<sync::SyncEntry>>(blob);
}

}  // namespace hermes
