#include "daemon/core/codec.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

sync::Mount FullMount() {
  sync::Mount mount;
  mount.id = "m";
  mount.host_root = std::string("/a\xff", 3);
  mount.remote_root = "/b";
  mount.beneath = "/";
  mount.kind = sync::MountKind::kFile;
  mount.policy = sync::Policy::kPush;
  mount.conflict = sync::ConflictPolicy::kAbort;
  mount.deletes = sync::DeletePolicy::kReport;
  mount.links = sync::LinkPolicy::kFollowHost;
  mount.ignore = {"*.o", ""};
  mount.max_files = 1;
  mount.max_bytes = 2;
  mount.max_file_bytes = 3;
  return mount;
}

// One change each, so that a field that is not written, or not read back, shows.
const std::function<void(SessionInfo&)> kSessionFields[] = {
    [](auto& s) { s.id = "build-1"; },
    [](auto& s) { s.backend = "local"; },
    [](auto& s) { s.state = SessionState::kLost; },
    [](auto& s) { s.version = UINT64_MAX; },
    [](auto& s) { s.labels = {{"team", "a"}, {"x", ""}}; },
    [](auto& s) { s.create_time = WallTime(Duration(INT64_MIN)); },
    [](auto& s) { s.expire_time = WallTime(Duration(INT64_MAX)); },
    [](auto& s) { s.idle_ttl = std::chrono::hours(3); },
    [](auto& s) { s.runner = RunnerPolicy::kRequire; },
    [](auto& s) { s.first_cwd = "/a"; },
    [](auto& s) { s.first_env = {{"A", std::string("\0\n\xff", 3)}, {"A", "again"}}; },
    [](auto& s) { s.cwd = "/b"; },
    [](auto& s) { s.generation = 128; },
    [](auto& s) { s.incarnation = "boot"; },
    [](auto& s) { s.capabilities.split_stderr = true; },
    [](auto& s) { s.capabilities.merged_order = true; },
    [](auto& s) { s.capabilities.pty = true; },
    [](auto& s) { s.capabilities.stdin_stream = true; },
    [](auto& s) { s.capabilities.survives_daemon = true; },
    [](auto& s) { s.capabilities.remote_deadline = true; },
    [](auto& s) { s.capabilities.shell_functions = true; },
    [](auto& s) { s.capabilities.residual_tracking = true; },
    [](auto& s) { s.capabilities.argv = true; },
    [](auto& s) { s.capabilities.kill_method = KillMethod::kSandboxStop; },
    [](auto& s) { s.capabilities.kill_verified = true; },
    [](auto& s) { s.capabilities.max_concurrent_commands = 7; },
    [](auto& s) { s.conditions = {{"Reachable", false, "GONE", "since a while", WallTime()}, {}}; },
    [](auto& s) { s.creator_uid = 4'294'967'295; },
    [](auto& s) { s.engine = "plain"; },
    [](auto& s) { s.engine_reason = "noexec"; },
    [](auto& s) { s.sandbox_handle = "handle"; },
    [](auto& s) { s.request_id = "id"; },
    [](auto& s) { s.request_digest = std::string(32, '\0'); },
    [](auto& s) { s.has_secret = true; },
    [](auto& s) { s.ssh.host = "h"; },
    [](auto& s) { s.ssh.user = "u"; },
    [](auto& s) { s.ssh.port = 65'535; },
    [](auto& s) { s.ssh.key_file = "/k"; },
    [](auto& s) { s.ssh.host_key = "strict"; },
    [](auto& s) { s.ssh.transport = SshTransportChoice::kLibssh2; },
    [](auto& s) { s.ssh.config_file = "/c"; },
    [](auto& s) { s.ssh.options = {{"Compression", "yes"}, {"Ciphers", ""}}; },
    [](auto& s) { s.place = "u@h:22"; },
    [](auto& s) { s.sync.mounts = {{.host_root = "/h", .remote_root = "~/r"}, FullMount()}; },
    [](auto& s) { s.sync.on_error = OnSyncError::kRunStale; },
    [](auto& s) { s.sync.min_interval = std::chrono::seconds(5); },
    [](auto& s) { s.sync.lock_file = "/h/.sync.lock"; },
    [](auto& s) { s.place_key = "local"; },
    [](auto& s) { s.discard = true; },
};

Outcome KilledOutcome() {
  Outcome o;
  o.state = CommandState::kKilled;
  o.cause = Cause::kRunTimeout;
  o.signalled = true;
  o.value = -9;
  o.launch_stage = LaunchStage::kPty;
  o.launch_errno = 2;
  o.tree = TreeReport{KillMethod::kSupervisor, 500, 1, true, {-1, 77}};
  o.user_us = 1;
  o.system_us = 2;
  o.max_rss_bytes = 3;
  o.residual = true;
  o.state_committed = true;
  o.state_reason = "killed";
  o.generation = 4;
  o.cwd = "/c";
  return o;
}

const std::function<void(StoredCommand&)> kCommandFields[] = {
    [](auto& c) { c.info.session_id = "build-1"; },
    [](auto& c) { c.info.id = "c-1"; },
    [](auto& c) { c.info.run_id = "run"; },
    [](auto& c) { c.info.client_request_id = true; },
    [](auto& c) { c.info.request_digest = "digest"; },
    [](auto& c) { c.info.state = CommandState::kUnknown; },
    [](auto& c) { c.info.outcome = Outcome(); },
    [](auto& c) { c.info.outcome = KilledOutcome(); },
    [](auto& c) { c.info.produced.offset[0] = 1ull << 40; },
    [](auto& c) { c.info.produced.offset[1] = 5; },
    [](auto& c) { c.info.create_time = WallTime(Duration(1)); },
    [](auto& c) { c.info.start_time = WallTime(Duration(2)); },
    [](auto& c) { c.info.end_time = WallTime(Duration(3)); },
    [](auto& c) { c.info.labels = {{"k", "v"}}; },
    [](auto& c) { c.info.incarnation = "boot"; },
    [](auto& c) { c.info.residual = true; },
    [](auto& c) { c.info.pid = 4'194'304; },
    [](auto& c) { c.info.summary = "echo 'h\xc3\xa4'"; },
    [](auto& c) { c.info.creator_uid = 1000; },
    [](auto& c) { c.info.has_pty = true; },
    [](auto& c) { c.info.output.merge_stderr = true; },
    [](auto& c) { c.info.output.limit_bytes = 1; },
    [](auto& c) { c.info.output.overflow = Overflow::kKill; },
    [](auto& c) { c.info.kill_grace = Duration(-1); },
    [](auto& c) { c.info.far_id = "far"; },
    [](auto& c) { c.info.on_disconnect = OnDisconnect::kCancelAfterGrace; },
    [](auto& c) { c.output.stream[0].end = 9; },
    [](auto& c) { c.output.stream[0].holes = {{3, 4}, {5, 6}}; },
    [](auto& c) { c.output.stream[1].in_file = true; },
    [](auto& c) { c.forgotten = true; },
    [](auto& c) { c.output_expired = true; },
};

TEST(CodecTest, BringsBackEveryFieldOfASession) {
  const std::string plain = EncodeSession({});
  for (size_t i = 0; i < std::size(kSessionFields); ++i) {
    SessionInfo session;
    kSessionFields[i](session);
    const std::string blob = EncodeSession(session);
    EXPECT_NE(blob, plain) << "field " << i << " is not written";
    ASSERT_TRUE(DecodeSession(blob).ok()) << i;
    EXPECT_EQ(EncodeSession(*DecodeSession(blob)), blob) << "field " << i << " is not read back";
  }
}

TEST(CodecTest, BringsBackEveryFieldOfACommand) {
  const std::string plain = EncodeCommand({});
  for (size_t i = 0; i < std::size(kCommandFields); ++i) {
    StoredCommand command;
    kCommandFields[i](command);
    const std::string blob = EncodeCommand(command);
    EXPECT_NE(blob, plain) << "field " << i << " is not written";
    ASSERT_TRUE(DecodeCommand(blob).ok()) << i;
    EXPECT_EQ(EncodeCommand(*DecodeCommand(blob)), blob) << "field " << i << " is not read back";
  }
}

const std::function<void(SyncInfo&)> kSyncFields[] = {
    [](auto& s) { s.session_id = "build-1"; },
    [](auto& s) { s.id = "y1"; },
    [](auto& s) { s.kind = SyncKind::kRevert; },
    [](auto& s) { s.state = SyncState::kInterrupted; },
    [](auto& s) { s.reason = "SYNC_FAILED"; },
    [](auto& s) { s.message = "why"; },
    [](auto& s) { s.progress.files_done = 1; },
    [](auto& s) { s.progress.files_total = 2; },
    [](auto& s) { s.progress.bytes_done = 3; },
    [](auto& s) { s.progress.bytes_total = UINT64_MAX; },
    [](auto& s) { s.report.counts.applied = 1; },
    [](auto& s) { s.report.counts.conflicts = 2; },
    [](auto& s) { s.report.counts.rejected = 3; },
    [](auto& s) { s.report.counts.held = 4; },
    [](auto& s) { s.report.counts.failed = 5; },
    [](auto& s) { s.report.counts.bytes = 1ull << 40; },
    [](auto& s) { s.report.unsaved = 6; },
    [](auto& s) { s.report.suspect = true; },
    [](auto& s) { s.report.revertible = true; },
    [](auto& s) { s.of_sync = "y0"; },
    [](auto& s) { s.create_time = WallTime(Duration(1)); },
    [](auto& s) { s.end_time = WallTime(Duration(2)); },
    [](auto& s) { s.expire_time = WallTime(Duration(3)); },
    [](auto& s) { s.entries_total = 7; },
    [](auto& s) { s.creator_uid = 1000; },
    [](auto& s) { s.request_id = "id"; },
    [](auto& s) { s.request_digest = "digest"; },
};

TEST(CodecTest, BringsBackEveryFieldOfASync) {
  const std::string plain = EncodeSync({});
  for (size_t i = 0; i < std::size(kSyncFields); ++i) {
    SyncInfo sync;
    kSyncFields[i](sync);
    const std::string blob = EncodeSync(sync);
    EXPECT_NE(blob, plain) << "field " << i << " is not written";
    ASSERT_TRUE(DecodeSync(blob).ok()) << i;
    EXPECT_EQ(EncodeSync(*DecodeSync(blob)), blob) << "field " << i << " is not read back";
  }
}

TEST(CodecTest, BringsBackMounts) {
  SessionInfo session;
  session.sync.mounts = {FullMount()};
  const SessionInfo back = *DecodeSession(EncodeSession(session));
  EXPECT_EQ(back.sync, session.sync);
}

SessionInfo FullSession() {
  SessionInfo session;
  for (const auto& change : kSessionFields) change(session);
  return session;
}

StoredCommand FullCommand() {
  StoredCommand command;
  for (const auto& change : kCommandFields) change(command);
  return command;
}

TEST(CodecTest, KeepsValuesExactly) {
  const SessionInfo session = *DecodeSession(EncodeSession(FullSession()));
  EXPECT_EQ(session.version, UINT64_MAX);
  EXPECT_EQ(session.labels, Labels({{"team", "a"}, {"x", ""}}));
  EXPECT_EQ(session.first_env[0].second, std::string("\0\n\xff", 3));
  EXPECT_EQ(session.first_env[1].first, "A");
  EXPECT_EQ(session.create_time, WallTime(Duration(INT64_MIN)));
  EXPECT_EQ(session.expire_time, WallTime(Duration(INT64_MAX)));
  EXPECT_EQ(session.conditions[0].message, "since a while");
  const StoredCommand command = *DecodeCommand(EncodeCommand(FullCommand()));
  EXPECT_EQ(command.info.outcome->value, -9);
  EXPECT_EQ(command.info.outcome->tree->survivor_pids, std::vector<int32_t>({-1, 77}));
  EXPECT_EQ(command.info.kill_grace, Duration(-1));
  EXPECT_EQ(command.output.stream[0].holes[1], (OutputHole{5, 6}));
}

std::string Body(const std::string& blob) { return std::string(*UnsealBlob(blob)); }

TEST(CodecTest, IgnoresFieldsOfANewerWriterAndDefaultsThoseOfAnOlderOne) {
  const std::string body = Body(EncodeSession(FullSession()));
  const auto newer = DecodeSession(SealBlob(body + "something new"));
  ASSERT_TRUE(newer.ok());
  EXPECT_EQ(Body(EncodeSession(*newer)), body);
  const auto older = DecodeSession(SealBlob(body.substr(0, 1 + 7)));  // the id alone
  ASSERT_TRUE(older.ok());
  EXPECT_EQ(older->id, "build-1");
  EXPECT_EQ(older->state, SessionState::kOpening);
  EXPECT_EQ(older->sync, SyncSettings());
  EXPECT_TRUE(DecodeCommand(SealBlob("")).ok());
}

TEST(CodecTest, SaysStoreCorruptForAnyFlippedBitCutOrUnknownVersion) {
  const std::string blob = EncodeCommand(FullCommand());
  for (size_t i = 0; i < blob.size(); ++i) {
    std::string damaged = blob;
    damaged[i] ^= 0x10;
    EXPECT_EQ(ReasonOf(DecodeCommand(damaged).status()), Reason::k_STORE_CORRUPT) << i;
    EXPECT_EQ(ReasonOf(DecodeCommand(blob.substr(0, i)).status()), Reason::k_STORE_CORRUPT) << i;
  }
}

TEST(CodecTest, SaysStoreCorruptForValuesThatDoNotFit) {
  const auto decode = [](std::string body) {
    return ReasonOf(DecodeSession(SealBlob(body)).status());
  };
  const std::string name(1, '\0');                                   // an empty text
  EXPECT_EQ(decode(name + name + '\x06'), std::nullopt);             // the last state
  EXPECT_EQ(decode(name + name + '\x07'), Reason::k_STORE_CORRUPT);  // a state too far
  EXPECT_EQ(decode("\x05"
                   "abc"),
            Reason::k_STORE_CORRUPT);                                   // longer than what is there
  EXPECT_EQ(decode(std::string(11, '\xff')), Reason::k_STORE_CORRUPT);  // a number without end
  EXPECT_EQ(decode(name + name + '\0' + '\0' + "\xff\xff\xff\xff\x0f"), Reason::k_STORE_CORRUPT);
}

TEST(CodecTest, SurvivesRandomDamageBehindAValidChecksum) {
  const std::string session = Body(EncodeSession(FullSession()));
  const std::string command = Body(EncodeCommand(FullCommand()));
  const std::vector<sync::SyncEntry> one = {{.path = "a", .host = sync::Content{}}};
  const std::string entries = Body(EncodeSyncEntries(one));
  std::mt19937 random(7);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string body = i % 3 == 0 ? session : i % 3 == 1 ? command : entries;
    for (unsigned n = 1 + random() % 4; n > 0; --n) body[random() % body.size()] = random();
    if (random() % 4 == 0) body.resize(random() % body.size());
    const std::string blob = SealBlob(body);
    refused += !(i % 3 == 0   ? DecodeSession(blob).ok()
                 : i % 3 == 1 ? DecodeCommand(blob).ok()
                              : DecodeSyncEntries(blob).ok());
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace hermes
