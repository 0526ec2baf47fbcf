#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "daemon/rpc/decode.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using namespace std::chrono_literals;
using Request = v1::ExecuteRequest;

constexpr char kId[] = "00112233-4455-6677-8899-aabbccddeeff";
constexpr char kMadeUp[] = "ffffffff-ffff-4fff-8fff-ffffffffffff";

Request Good() {
  Request request;
  request.set_session("sessions/s");
  request.set_shell("true");
  return request;
}

absl::StatusOr<ExecuteCall> Decode(Request request, bool interactive = false) {
  return DecodeExecute(std::move(request),
                       {.limits = {}, .made_up_id = kMadeUp, .interactive = interactive, .uid = 7});
}

struct BadRow {
  const char* field;
  Reason reason;
  std::function<void(Request&)> spoil;
};

const std::string kNul("a\0b", 3);

void ExpectNamed(const std::vector<BadRow>& rows) {
  for (const BadRow& row : rows) {
    Request request = Good();
    row.spoil(request);
    const absl::Status status = Decode(std::move(request)).status();
    EXPECT_EQ(ReasonOf(status), row.reason) << row.field << ": " << status;
    EXPECT_EQ(MetadataOf(status)["field"], row.field) << status;
  }
}

TEST(DecodeExecuteTest, EveryBadFieldOfTheProgramIsNamed) {
  ExpectNamed({
      {"session", Reason::k_BAD_NAME, [](Request& r) { r.clear_session(); }},
      {"session", Reason::k_BAD_NAME, [](Request& r) { r.set_session("s"); }},
      {"session", Reason::k_BAD_NAME, [](Request& r) { r.set_session("sessions/" + kNul); }},
      {"request_id", Reason::k_BAD_FIELD, [](Request& r) { r.set_request_id("1"); }},
      {"program", Reason::k_BAD_FIELD, [](Request& r) { r.clear_program(); }},
      {"shell", Reason::k_BAD_FIELD, [](Request& r) { r.set_shell(kNul); }},
      {"shell", Reason::k_BAD_FIELD,
       [](Request& r) { r.set_shell(std::string(kMaxScriptBytes + 1, 'x')); }},
      {"argv.args", Reason::k_BAD_FIELD, [](Request& r) { r.mutable_argv(); }},
      {"argv.args", Reason::k_BAD_FIELD, [](Request& r) { r.mutable_argv()->add_args(""); }},
      {"argv.args[1]", Reason::k_BAD_FIELD,
       [](Request& r) {
         r.mutable_argv()->add_args("x");
         r.mutable_argv()->add_args(kNul);
       }},
      {"argv.args[0]", Reason::k_BAD_FIELD,
       [](Request& r) { r.mutable_argv()->add_args(std::string(kMaxArgBytes + 1, 'x')); }},
      {"argv.args", Reason::k_BAD_FIELD,
       [](Request& r) {
         for (size_t i = 0; i <= kMaxArgs; ++i) r.mutable_argv()->add_args("x");
       }},
      {"cwd", Reason::k_BAD_FIELD, [](Request& r) { r.set_cwd("relative"); }},
      {"env[1X]", Reason::k_BAD_FIELD, [](Request& r) { (*r.mutable_env())["1X"] = ""; }},
      {"secret_env[A]", Reason::k_BAD_FIELD,
       [](Request& r) { (*r.mutable_secret_env())["A"] = kNul; }},
      {"secret_env[A]", Reason::k_BAD_FIELD,
       [](Request& r) {
         (*r.mutable_env())["A"] = "1";
         (*r.mutable_secret_env())["A"] = "2";
       }},
      {"stdin_data", Reason::k_BAD_FIELD,
       [](Request& r) {
         r.set_stdin_data("x");
         r.set_stdin(v1::STDIN_NULL);
       }},
      {"stdin_data", Reason::k_BAD_FIELD,
       [](Request& r) {
         r.set_stdin_data("x");
         r.set_stdin(v1::STDIN_OPEN);
       }},
      {"stdin", Reason::k_BAD_FIELD, [](Request& r) { r.set_stdin(v1::StdinMode(9)); }},
      {"pty.cols", Reason::k_BAD_FIELD, [](Request& r) { r.mutable_pty()->set_cols(10'001); }},
      {"pty.rows", Reason::k_BAD_FIELD, [](Request& r) { r.mutable_pty()->set_rows(UINT32_MAX); }},
      {"pty.term", Reason::k_BAD_FIELD, [](Request& r) { r.mutable_pty()->set_term("a b"); }},
      {"pty.term", Reason::k_BAD_FIELD,
       [](Request& r) { r.mutable_pty()->set_term(std::string(65, 'x')); }},
  });
}

TEST(DecodeExecuteTest, EveryBadFieldOfTheTermsIsNamed) {
  ExpectNamed({
      {"run_timeout", Reason::k_BAD_TIMEOUT,
       [](Request& r) { r.mutable_run_timeout()->set_seconds(-1); }},
      {"run_timeout", Reason::k_BAD_TIMEOUT, [](Request& r) { r.mutable_run_timeout(); }},
      {"run_timeout", Reason::k_BAD_TIMEOUT,
       [](Request& r) { r.mutable_run_timeout()->set_seconds(7 * 24 * 3600 + 1); }},
      {"run_timeout", Reason::k_BAD_TIMEOUT,
       [](Request& r) { r.mutable_run_timeout()->set_nanos(1'000'000'000); }},
      {"wait_timeout", Reason::k_BAD_TIMEOUT,
       [](Request& r) { r.mutable_wait_timeout()->set_nanos(-1); }},
      {"kill_grace", Reason::k_BAD_TIMEOUT,
       [](Request& r) { r.mutable_kill_grace()->set_seconds(601); }},
      {"on_disconnect", Reason::k_BAD_FIELD,
       [](Request& r) { r.set_on_disconnect(v1::OnDisconnect(9)); }},
      {"state_mode", Reason::k_BAD_FIELD, [](Request& r) { r.set_state_mode(v1::StateMode(9)); }},
      {"sync_before", Reason::k_BAD_FIELD,
       [](Request& r) { r.set_sync_before(v1::SyncBefore(9)); }},
      {"output.limit_bytes", Reason::k_BAD_FIELD,
       [](Request& r) { r.mutable_output()->set_limit_bytes(kMinOutputLimit - 1); }},
      {"output.limit_bytes", Reason::k_BAD_FIELD,
       [](Request& r) { r.mutable_output()->set_limit_bytes(kMaxOutputLimit + 1); }},
      {"output.overflow", Reason::k_BAD_FIELD,
       [](Request& r) { r.mutable_output()->set_overflow(v1::OutputPolicy::Overflow(9)); }},
      {"from.stdout_offset", Reason::k_BAD_FIELD,
       [](Request& r) { r.mutable_from()->set_stdout_offset(UINT64_MAX); }},
      {"from.stderr_offset", Reason::k_BAD_FIELD,
       [](Request& r) { r.mutable_from()->set_stderr_offset(UINT64_MAX); }},
      {"expected_incarnation", Reason::k_BAD_FIELD,
       [](Request& r) { r.set_expected_incarnation("a\nb"); }},
      {"labels[A]", Reason::k_BAD_FIELD, [](Request& r) { (*r.mutable_labels())["A"] = ""; }},
  });
}

TEST(DecodeExecuteTest, DefaultsAreThoseOfTheApi) {
  const auto call = Decode(Good());
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->start.session_id, "s");
  EXPECT_EQ(call->start.spec.run_id, kMadeUp);
  EXPECT_FALSE(call->start.client_request_id);
  EXPECT_EQ(call->start.spec.script, "true");
  EXPECT_FALSE(call->start.spec.stdin_open);
  EXPECT_FALSE(call->start.stdin_data.has_value());
  EXPECT_FALSE(call->start.spec.pty.has_value());
  EXPECT_EQ(call->start.spec.run_timeout, 0s);
  EXPECT_EQ(call->start.spec.kill_grace, 2s);
  EXPECT_EQ(call->start.spec.state_mode, StateMode::kCommit);
  EXPECT_EQ(call->start.on_disconnect, OnDisconnect::kCancelAfterGrace);
  EXPECT_EQ(call->start.sync_before, SyncBefore::kIfStale);
  EXPECT_EQ(call->start.output.limit_bytes, 128u << 20);
  EXPECT_EQ(call->start.output.overflow, Overflow::kDropMiddle);
  EXPECT_EQ(call->start.uid, 7u);
  EXPECT_FALSE(call->follow.wait.has_value());
  EXPECT_TRUE(call->follow.follow);
}

TEST(DecodeExecuteTest, ARequestIdMakesDetachTheDefault) {
  Request request = Good();
  request.set_request_id("00112233-4455-6677-8899-AABBCCDDEEFF");
  const auto call = Decode(request);
  ASSERT_TRUE(call.ok());
  EXPECT_EQ(call->start.spec.run_id, kId);
  EXPECT_TRUE(call->start.client_request_id);
  EXPECT_EQ(call->start.on_disconnect, OnDisconnect::kDetach);
}

TEST(DecodeExecuteTest, WhatIsStartedInTheBackgroundIsCancelledOnlyWhenItSaysSo) {
  Request request = Good();
  auto call = DecodeExecute(request, {.background = true});
  ASSERT_TRUE(call.ok());
  EXPECT_EQ(call->start.on_disconnect, OnDisconnect::kDetach);
  request.set_on_disconnect(v1::CANCEL);
  call = DecodeExecute(request, {.background = true});
  ASSERT_TRUE(call.ok());
  EXPECT_EQ(call->start.on_disconnect, OnDisconnect::kCancel);
}

TEST(DecodeExecuteTest, StdinFollowsItsMode) {
  Request data = Good();
  data.set_stdin_data("in");
  auto call = Decode(data);
  ASSERT_TRUE(call.ok());
  EXPECT_TRUE(call->start.spec.stdin_open);
  EXPECT_EQ(call->start.stdin_data, "in");

  Request empty = Good();
  empty.set_stdin(v1::STDIN_DATA);
  call = Decode(empty);
  ASSERT_TRUE(call.ok());
  EXPECT_EQ(call->start.stdin_data, "");

  EXPECT_TRUE(Decode(Good(), true)->start.spec.stdin_open);
  Request null = Good();
  null.set_stdin(v1::STDIN_NULL);
  EXPECT_FALSE(Decode(null, true)->start.spec.stdin_open);

  Request pty = Good();
  pty.mutable_pty()->set_rows(5);
  call = Decode(pty);
  ASSERT_TRUE(call.ok());
  EXPECT_TRUE(call->start.spec.stdin_open);
  EXPECT_EQ(call->start.spec.pty->cols, 80);
  EXPECT_EQ(call->start.spec.pty->rows, 5);
  EXPECT_EQ(call->start.spec.pty->term, "xterm-256color");
}

TEST(DecodeExecuteTest, ValuesArriveAsTheyWereSent) {
  Request request = Good();
  request.mutable_argv()->add_args("/bin/echo");
  request.mutable_argv()->add_args("");
  request.mutable_argv()->add_args("\xff");
  request.set_cwd("~/w");
  (*request.mutable_env())["E"] = "é\n";
  (*request.mutable_secret_env())["S"] = "s";
  request.mutable_run_timeout()->set_nanos(5'000'000);
  request.mutable_wait_timeout();
  request.mutable_kill_grace();
  request.set_state_mode(v1::ISOLATED);
  request.set_on_disconnect(v1::CANCEL);
  request.set_sync_before(v1::FORCE);
  request.mutable_output()->set_merge_stderr(true);
  request.mutable_output()->set_overflow(v1::OutputPolicy::BLOCK_PROCESS);
  request.mutable_from()->set_stderr_offset(9);
  (*request.mutable_labels())["k"] = "v";
  const auto call = Decode(request);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->start.spec.argv, (std::vector<std::string>{"/bin/echo", "", "\xff"}));
  EXPECT_EQ(call->start.spec.cwd, "~/w");
  EXPECT_EQ(call->start.spec.env, (EnvPairs{{"E", "é\n"}}));
  EXPECT_EQ(call->start.spec.secret_env, (EnvPairs{{"S", "s"}}));
  EXPECT_EQ(call->start.spec.run_timeout, 5ms);
  EXPECT_EQ(call->follow.wait, 0s);
  EXPECT_EQ(call->start.spec.kill_grace, 0s);
  EXPECT_EQ(call->start.spec.state_mode, StateMode::kIsolated);
  EXPECT_EQ(call->start.on_disconnect, OnDisconnect::kCancel);
  EXPECT_EQ(call->start.sync_before, SyncBefore::kForce);
  EXPECT_TRUE(call->start.spec.merge_stderr);
  EXPECT_EQ(call->start.output.overflow, Overflow::kBlockProcess);
  EXPECT_EQ(call->follow.from.offset[1], 9u);
  EXPECT_EQ(call->start.labels, (Labels{{"k", "v"}}));
}

TEST(DecodeExecuteTest, LimitsThemselvesAreAllowed) {
  Request request = Good();
  request.set_shell(std::string(kMaxScriptBytes, 'x'));
  EXPECT_TRUE(Decode(std::move(request)).ok());
  request = Good();
  for (size_t i = 0; i < kMaxArgs; ++i) request.mutable_argv()->add_args("x");
  request.mutable_pty()->set_cols(10'000);
  request.mutable_run_timeout()->set_seconds(7 * 24 * 3600);
  request.mutable_kill_grace()->set_seconds(600);
  request.mutable_output()->set_limit_bytes(kMaxOutputLimit);
  EXPECT_TRUE(Decode(std::move(request)).ok());
}

TEST(DecodeExecuteTest, TheSummaryIsShortAndWholeAndFreeOfSecrets) {
  Request request = Good();
  request.set_shell(std::string(199, 'x') + "é");
  (*request.mutable_secret_env())["S"] = "hidden";
  auto call = Decode(request);
  ASSERT_TRUE(call.ok());
  EXPECT_EQ(call->start.summary, std::string(199, 'x'));
  request.mutable_argv()->add_args("ls");
  request.mutable_argv()->add_args("-l");
  call = Decode(request);
  ASSERT_TRUE(call.ok());
  EXPECT_EQ(call->start.summary, "ls -l");
}

TEST(DecodeExecuteTest, TheDigestTellsBodiesApartAndRetriesNot) {
  Request request = Good();
  for (int i = 0; i < 50; ++i) (*request.mutable_env())["V" + std::to_string(i)] = "x";
  const std::string digest = Decode(request)->start.digest;
  EXPECT_EQ(digest.size(), 64u);

  Request retry = Good();
  for (int i = 49; i >= 0; --i) (*retry.mutable_env())["V" + std::to_string(i)] = "x";
  retry.set_request_id(kId);
  retry.mutable_from()->set_stdout_offset(5);
  retry.mutable_wait_timeout()->set_seconds(1);
  EXPECT_EQ(Decode(retry)->start.digest, digest);

  for (const auto& change : std::vector<std::function<void(Request&)>>{
           [](Request& r) { r.set_shell("false"); }, [](Request& r) { r.set_cwd("/"); },
           [](Request& r) { (*r.mutable_env())["V0"] = "y"; },
           [](Request& r) { (*r.mutable_secret_env())["S"] = "y"; },
           [](Request& r) { r.set_stdin_data("x"); },
           [](Request& r) { r.mutable_run_timeout()->set_seconds(1); }}) {
    Request other = request;
    change(other);
    EXPECT_NE(Decode(other)->start.digest, digest);
  }
  Request secret = request;
  (*secret.mutable_secret_env())["S"] = "x";
  Request other_secret = request;
  (*other_secret.mutable_secret_env())["S"] = "y";
  EXPECT_NE(Decode(secret)->start.digest, Decode(other_secret)->start.digest);
}

TEST(DecodeExecTest, SmallRequestsAreChecked) {
  v1::AttachRequest attach;
  attach.set_name("sessions/s/commands/c");
  EXPECT_TRUE(DecodeAttach(attach, {}).ok());
  attach.mutable_from()->set_stdout_offset(UINT64_MAX);
  EXPECT_EQ(MetadataOf(DecodeAttach(attach, {}).status())["field"], "from.stdout_offset");

  v1::StdinChunk chunk;
  chunk.set_data(std::string(kMaxStdinChunk, 'x'));
  EXPECT_TRUE(DecodeStdin("chunk", chunk).ok());
  chunk.mutable_data()->push_back('x');
  EXPECT_EQ(MetadataOf(DecodeStdin("chunk", chunk).status())["field"], "chunk.data");
  chunk.clear_data();
  chunk.set_offset(UINT64_MAX);
  EXPECT_EQ(MetadataOf(DecodeStdin("stdin", chunk).status())["field"], "stdin.offset");

  for (int good : {1, 9, 64}) EXPECT_TRUE(CheckSignal("signal", good).ok());
  for (int bad : {0, -1, 65, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(MetadataOf(CheckSignal("signal", bad))["field"], "signal");
  }
  EXPECT_EQ(*DecodeScope(v1::SignalRequest::SCOPE_UNSPECIFIED), 0);
  EXPECT_EQ(*DecodeScope(v1::SignalRequest::TREE), 0);
  EXPECT_EQ(*DecodeScope(v1::SignalRequest::FOREGROUND), 2);
  EXPECT_FALSE(DecodeScope(v1::SignalRequest::Scope(9)).ok());

  v1::WaitCommandRequest wait;
  EXPECT_EQ(*DecodeWait(wait), 30s);
  wait.mutable_timeout()->set_seconds(60);
  EXPECT_EQ(*DecodeWait(wait), 60s);
  wait.mutable_timeout()->set_seconds(61);
  EXPECT_EQ(ReasonOf(DecodeWait(wait).status()), Reason::k_BAD_TIMEOUT);
}

TEST(DecodeReadTest, OneFormAtATime) {
  v1::ReadOutputRequest request;
  request.set_name("sessions/s/commands/c");
  EXPECT_EQ(DecodeRead(request)->limit, kMaxReadBytes);
  const auto field_of = [&](const std::function<void(v1::ReadOutputRequest&)>& spoil) {
    v1::ReadOutputRequest spoilt = request;
    spoil(spoilt);
    return MetadataOf(DecodeRead(spoilt).status())["field"];
  };
  EXPECT_EQ(field_of([](auto& r) { r.set_limit(kMaxReadBytes + 1); }), "limit");
  EXPECT_EQ(field_of([](auto& r) { r.set_head_bytes(kMaxReadBytes + 1); }), "head_bytes");
  EXPECT_EQ(field_of([](auto& r) { r.set_tail_bytes(UINT64_MAX); }), "tail_bytes");
  EXPECT_EQ(field_of([](auto& r) { r.set_re2(std::string(kMaxPatternBytes + 1, 'x')); }), "re2");
  EXPECT_EQ(field_of([](auto& r) { r.set_channel(v1::Channel(9)); }), "channel");
  EXPECT_EQ(field_of([](auto& r) {
              r.set_re2("x");
              r.set_tail_bytes(1);
            }),
            "re2");
  EXPECT_EQ(field_of([](auto& r) {
              r.set_offset(1);
              r.set_head_bytes(1);
            }),
            "offset");
  EXPECT_EQ(field_of([](auto& r) {
              r.set_limit(1);
              r.set_head_bytes(1);
            }),
            "limit");
  EXPECT_EQ(field_of([](auto& r) { r.set_name("sessions/s"); }), "name");
}

TEST(DecodeListTest, CommandFiltersAndParentsAreChecked) {
  v1::ListCommandsRequest request;
  request.set_parent("sessions/-");
  EXPECT_EQ(DecodeListCommands(request)->session, "");
  request.set_parent("sessions/s");
  request.set_filter("state=RUNNING AND label.team/x=a=b c");
  const auto call = DecodeListCommands(request);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->filter.state, CommandState::kRunning);
  EXPECT_EQ(call->filter.labels, (Labels{{"team/x", "a=b c"}}));
  for (const char* bad : {"state", "=x", "state=running", "backend=x", "state=RUNNING AND ",
                          "state=RUNNING AND state=EXITED", "state=RUNNING and label.a=b",
                          "label.A=b", " AND state=RUNNING", "a b=c"}) {
    request.set_filter(bad);
    EXPECT_EQ(MetadataOf(DecodeListCommands(request).status())["field"], "filter") << bad;
  }
  request.clear_filter();
  request.set_page_token("00");
  EXPECT_EQ(MetadataOf(DecodeListCommands(request).status())["field"], "page_token");
  request.clear_page_token();
  request.set_parent("sessions/*");
  EXPECT_EQ(MetadataOf(DecodeListCommands(request).status())["field"], "parent");
}

}  // namespace
}  // namespace hermes
