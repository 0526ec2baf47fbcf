// A daemon that cannot start says why, and by its code whether to try again is of use.

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"

namespace hermes {
namespace {

constexpr int kExitConfig = 78;

TEST(StartTest, AFolderTooLongForASocketIsAWrongConfiguration) {
  const TempDir temp;
  const std::string dir = temp.path() + "/" + std::string(100, 'x');
  const Ran ran = RunProgram({.argv = {BinDir() + "/hermesd", "--dev", "--dir", dir}});
  EXPECT_EQ(ran.status, kExitConfig);
  EXPECT_NE(ran.err.find("socket must be at most 107 bytes"), std::string::npos) << ran.err;
  EXPECT_FALSE(std::filesystem::exists(dir)) << "something was made before it was checked";
}

TEST(StartTest, BothProgramsSayTheirVersionAndCommit) {
  for (const char* program : {"hermesd", "hermesctl"}) {
    const Ran ran = RunProgram({.argv = {BinDir() + "/" + program, "--version"}});
    EXPECT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.out,
                testing::MatchesRegex(std::string(program) +
                                      " [0-9]+\\.[0-9]+\\.[0-9]+ \\(([0-9a-f]{12}|unknown)\\)\n"));
  }
}

TEST(StartTest, AConfigurationIsCheckedWithoutAStart) {
  const TempDir temp;
  const std::string file = temp.path() + "/hermesd.toml", state = temp.path() + "/state";
  const auto check = [&](const std::string& text) {
    std::ofstream(file) << "state_dir = \"" << state << "\"\n" << text;
    return RunProgram({.argv = {BinDir() + "/hermesd", "--check-config", "--config", file}});
  };
  EXPECT_EQ(check("[limits]\nmax_sessions = 5\n").out, file + ": ok\n");
  const Ran wrong = check("[limits]\nmax_session = 5\n");
  EXPECT_EQ(wrong.status, kExitConfig);
  EXPECT_NE(wrong.err.find("the nearest is limits.max_sessions"), std::string::npos) << wrong.err;
  const Ran missing = RunProgram(
      {.argv = {BinDir() + "/hermesd", "--check-config", "--config", temp.path() + "/none"}});
  EXPECT_EQ(missing.status, kExitConfig);
  EXPECT_NE(missing.err.find("/none"), std::string::npos) << missing.err;
  EXPECT_FALSE(std::filesystem::exists(state)) << "a check made something";
}

TEST(StartTest, AResultThatIsNoLongerKeptIsSaidToBeSoAndNothingRunsAgain) {
  DaemonProcess daemon;
  daemon.Configure("[limits]\nresult_retention = \"1s\"\nrequest_id_retention = \"1h\"\n");
  daemon.Start();
  daemon.CreateSession("s");
  const std::string file = daemon.dir() + "/ran";
  const v1::ExecuteRequest request = Shell("s", "echo x >>" + file);
  const std::string name = ExecuteToEnd(daemon, request).command.name();
  EXPECT_EQ(daemon.Terminate(), 0);
  daemon.Start();  // old results are dropped soon after a start, then once a minute
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  grpc::Status status;
  EXPECT_TRUE(Eventually([&] {
    v1::GetCommandRequest get;
    get.set_name(name);
    grpc::ClientContext context;
    v1::Command command;
    status = stub->GetCommand(&context, get, &command);
    return !status.ok();
  }));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_NE(status.error_details().find("RESULT_EXPIRED"), std::string::npos);
  status = ExecuteToEnd(daemon, request, 1).status;
  EXPECT_NE(status.error_details().find("RESULT_EXPIRED"), std::string::npos);
  EXPECT_EQ(ReadWholeFile(file), "x\n") << "run again";
}

TEST(StartTest, ASecretIsInNoFileAndOutputIsInNoLog) {
  const std::string secret = "s3cret-" + NewUuid(), payload = "payload-" + NewUuid();
  DaemonProcess daemon;
  daemon.Configure("[log]\nlevel = \"debug\"\n");
  daemon.Start();
  daemon.CreateSession("s");
  v1::ExecuteRequest request = Shell("s", "cat; export KEPT=1; test -n \"$SECRET\"; echo $?");
  (*request.mutable_secret_env())["SECRET"] = secret;
  request.set_stdin_data(payload + "\n");
  const Seen seen = ExecuteToEnd(daemon, request);
  EXPECT_EQ(seen.out, payload + "\n0\n");
  EXPECT_EQ(daemon.Terminate(), 0);
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(daemon.dir())) {
    if (!entry.is_regular_file()) continue;
    ++files;
    EXPECT_EQ(ReadWholeFile(entry.path()).find(secret), std::string::npos) << entry.path();
  }
  EXPECT_GT(files, 3u);
  const std::string log = ReadWholeFile(daemon.dir() + "/hermesd.log");
  const std::string command =
      seen.command.name().substr(std::string("sessions/s/commands/").size());
  const std::string ids = " session=s command=" + command + " request=" + request.request_id();
  EXPECT_THAT(log, testing::HasSubstr("command started" + ids + "\n"));
  EXPECT_THAT(log, testing::HasSubstr("command ended: exited with 0" + ids + "\n"));
  for (const std::string& hidden : {payload, secret, std::string("KEPT")})
    EXPECT_EQ(log.find(hidden), std::string::npos) << hidden;
}

}  // namespace
}  // namespace hermes
