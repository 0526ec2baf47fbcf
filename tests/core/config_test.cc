#include "daemon/core/config.h"

#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <sstream>

#include "daemon/core/session_table.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

const ConfigEnvironment kHome = {"", "", "", "", "/home/u"};

absl::StatusOr<Config> Parse(std::string_view text) { return ParseConfig(text, "f.toml", kHome); }

std::string Complaint(std::string_view text) {
  const absl::StatusOr<Config> config = Parse(text);
  if (config.ok()) return "(none)";
  EXPECT_EQ(ReasonOf(config.status()), Reason::k_BAD_FIELD);
  return std::string(config.status().message());
}

std::string ShippedFile() {
  std::ifstream file(HERMES_SOURCE_DIR "/deploy/hermesd.toml");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// As if an operator had uncommented every key.
std::string Uncommented(const std::string& text) {
  std::stringstream lines(text);
  std::string result, line;
  while (std::getline(lines, line)) {
    const bool key = line.size() > 1 && line[0] == '#' && (std::islower(line[1]) || line[1] == '[');
    result += (key ? line.substr(1) : line) + "\n";
  }
  return result;
}

TEST(ConfigTest, TheShippedFileParsesAsItIsAndChangesNothing) {
  const std::string text = ShippedFile();
  ASSERT_FALSE(text.empty());
  EXPECT_EQ(Complaint(text), "(none)");
  EXPECT_EQ(*Parse(text), *Parse(""));
}

TEST(ConfigTest, TheShippedFileCommentsEveryKeyWithItsDefault) {
  const std::string text = Uncommented(ShippedFile());
  ASSERT_EQ(Complaint(text), "(none)");
  EXPECT_EQ(*Parse(text), *Parse(""));
  for (const std::string& key : ConfigKeys()) {
    const std::string name = "\n" + key.substr(key.rfind('.') + 1) + " = ";
    EXPECT_NE(text.find(name), std::string::npos) << key << " is not in deploy/hermesd.toml";
    // A line that cannot be parsed shows that the key stands in its table, once.
    std::string broken = text;
    const size_t table = key.rfind('.') == std::string::npos
                             ? 0
                             : text.find("\n[" + key.substr(0, key.rfind('.')) + "]\n");
    ASSERT_NE(table, std::string::npos) << key;
    const size_t at = text.find(name, table);
    ASSERT_NE(at, std::string::npos) << key;
    broken.insert(at + name.size(), "1979-05-27 #");
    EXPECT_NE(Complaint(broken).find(": " + key + " must be "), std::string::npos) << key;
  }
}

TEST(ConfigTest, DefaultsAreThoseOfTheSessionTable) {
  const Config::Limits limits;
  const TableLimits table;
  EXPECT_EQ(limits.max_sessions, table.max_sessions);
  EXPECT_EQ(limits.max_sessions_per_uid, table.max_sessions_per_uid);
  EXPECT_EQ(limits.max_commands, table.max_commands);
  EXPECT_EQ(limits.max_commands_per_uid, table.max_commands_per_uid);
  EXPECT_EQ(limits.max_commands_per_session, table.max_commands_per_session);
  EXPECT_EQ(limits.result_retention, table.result_retention);
  EXPECT_EQ(limits.request_id_retention, table.request_id_retention);
}

TEST(ConfigTest, ReadsEveryKindOfValue) {
  const auto config = Parse(R"(
state_dir = "/s"
runtime_dir = "/r"
socket = "/x.sock"
[limits]
max_sessions = 1
max_sessions_per_uid = 2
max_commands = 3
max_commands_per_uid = 5
max_commands_per_session = 4
max_run_timeout = "90m"
result_retention = "1500ms"
request_id_retention = "2d"
output_spool_bytes = "3MiB"
[access]
full = [1000, 0]
operate = [4294967294]
[log]
level = "debug"
[runner]
binary = "/b"
dir = "/d"
[backend.local]
enabled = false
runner = "require"
[backend.ssh]
enabled = false
runner = "never"
transport = "libssh2"
host_key = "accept-new"
[sync]
undo_max_age = "12h"
undo_max_bytes = "7MiB"
)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->state_dir, "/s");
  EXPECT_EQ(config->runtime_dir, "/r");
  EXPECT_EQ(config->socket, "/x.sock");
  const Config::Limits limits = {1,
                                 2,
                                 3,
                                 5,
                                 4,
                                 std::chrono::minutes(90),
                                 std::chrono::milliseconds(1500),
                                 std::chrono::hours(48),
                                 3 << 20};
  EXPECT_EQ(config->limits, limits);
  EXPECT_EQ(config->access, (Config::Access{{1000, 0}, {4294967294}}));
  EXPECT_EQ(config->log_level, LogLevel::kDebug);
  EXPECT_EQ(config->runner, (Config::Runner{"/b", "/d"}));
  EXPECT_EQ(config->local, (Config::Local{false, RunnerPolicy::kRequire}));
  EXPECT_EQ(config->ssh,
            (Config::Ssh{false, RunnerPolicy::kNever, SshTransportChoice::kLibssh2, "accept-new"}));
  EXPECT_EQ(config->sync, (Config::Sync{std::chrono::hours(12), 7 << 20}));
}

TEST(ConfigTest, NamesTheNearestKeyForAnUnknownOne) {
  EXPECT_EQ(Complaint("[limits]\nmax_session = 5"),
            "f.toml:2: there is no key limits.max_session; the nearest is limits.max_sessions");
  EXPECT_EQ(Complaint("\n\nmax_commands = 5"),
            "f.toml:3: there is no key max_commands; the nearest is limits.max_commands");
  EXPECT_EQ(Complaint("[runner]\nstate_dir = \"/\""),
            "f.toml:2: there is no key runner.state_dir; the nearest is state_dir");
  EXPECT_EQ(Complaint("[backend.ssh]\nruner = \"never\""),
            "f.toml:2: there is no key backend.ssh.runer; the nearest is backend.ssh.runner");
  EXPECT_EQ(Complaint("[limit]\nmax_commands = 5"),
            "f.toml:1: there is no table [limit]; the nearest is [limits]");
  EXPECT_EQ(Complaint("[backend.lokal]\nenabled = true"),
            "f.toml:1: there is no table [backend.lokal]; the nearest is [backend.local]");
  EXPECT_EQ(Complaint("[acces]"), "f.toml:1: there is no table [acces]; the nearest is [access]");
}

TEST(ConfigTest, SaysWhereAndWhatWouldBeRightForAWrongValue) {
  EXPECT_EQ(Complaint("[limits]\nmax_sessions = \"many\""),
            "f.toml:2: limits.max_sessions must be a whole number from 1 to 1000000, not \"many\"");
  EXPECT_EQ(Complaint("limits.max_commands = 0"),
            "f.toml:1: limits.max_commands must be a whole number from 1 to 100000, not 0");
  EXPECT_EQ(Complaint("limits.max_sessions = 10_000_000_000"),
            "f.toml:1: limits.max_sessions must be a whole number from 1 to 1000000, "
            "not 10000000000");
  EXPECT_EQ(Complaint("limits.result_retention = 60"),
            "f.toml:1: limits.result_retention must be a time from \"1s\" to \"30d\", not 60");
  EXPECT_EQ(Complaint("[backend.ssh]\nrunner = \"always\""),
            "f.toml:2: backend.ssh.runner must be one of \"auto\", \"never\", \"require\", "
            "not \"always\"");
  EXPECT_EQ(Complaint("state_dir = \"here\""),
            "f.toml:1: state_dir must be an absolute path (or \"\" for the default), not \"here\"");
  EXPECT_EQ(Complaint("backend.local.enabled = \"yes\""),
            "f.toml:1: backend.local.enabled must be true or false, not \"yes\"");
  EXPECT_EQ(Complaint("limits = 5"), "f.toml:1: limits must be a table: [limits]");
  EXPECT_EQ(Complaint("[socket]\nx = 1"),
            "f.toml:1: socket must be an absolute path (or \"\" for the default)");
}

TEST(ConfigTest, RefusesTimesSizesAndUserIdsThatAreNone) {
  for (const char* time : {"", "5", "h", "1H", "1.5h", "-1h", "1h30m", "31d", "999ms", " 1h",
                           "9999999999999999999d", "999999999999999999h"}) {
    EXPECT_NE(Complaint("limits.result_retention = \"" + std::string(time) + "\""), "(none)")
        << time;
  }
  for (const char* size : {"4MB", "1", "512", "0KiB", "17179869184GiB"}) {
    EXPECT_NE(Complaint("limits.output_spool_bytes = \"" + std::string(size) + "\""), "(none)")
        << size;
  }
  for (const char* uids : {"1000", "[\"root\"]", "[-1]", "[4294967295]", "[1.0]", "[[1]]"}) {
    EXPECT_NE(Complaint("access.full = " + std::string(uids)), "(none)") << uids;
  }
}

TEST(ConfigTest, RefusesTextThatIsNotTomlWithItsLine) {
  EXPECT_EQ(Complaint("a = 1\nb =").substr(0, 9), "f.toml:2:");
  EXPECT_NE(Complaint("socket = \"/a\"\nsocket = \"/b\""), "(none)");
  EXPECT_NE(Complaint(std::string_view("socket = \"/a\0b\"", 15)), "(none)");
  EXPECT_NE(Complaint("socket = \"/a\\u0000b\""), "(none)");
  EXPECT_EQ(Complaint("\n[}").substr(0, 9), "f.toml:2:");
  EXPECT_EQ(Complaint("\nl\xef\xba\xbf@").substr(0, 9), "f.toml:2:");
}

TEST(ConfigTest, RefusesValuesThatContradictEachOther) {
  EXPECT_EQ(Complaint("limits.result_retention = \"25h\""),
            "f.toml: limits.request_id_retention must not be shorter than limits.result_retention");
  EXPECT_NE(Complaint("socket = \"/" + std::string(107, 's') + "\""), "(none)");
  EXPECT_EQ(Complaint("socket = \"/" + std::string(106, 's') + "\""), "(none)");
}

TEST(ConfigTest, TakesPathsFromSystemdThenXdgThenHome) {
  const auto paths = [](const ConfigEnvironment& environment) {
    const Config config = *ParseConfig("", "f", environment);
    return config.state_dir + " " + config.socket;
  };
  EXPECT_EQ(paths({"/var/lib/a:/var/lib/b", "/run/a", "/xs", "/xr", "/h"}),
            "/var/lib/a /run/a/hermes.sock");
  EXPECT_EQ(paths({"", "", "/xs", "/xr", "/h"}), "/xs/hermesd /xr/hermesd/hermes.sock");
  EXPECT_EQ(paths({"", "", "", "", "/h"}), "/h/.local/state/hermesd /run/hermesd/hermes.sock");
  EXPECT_EQ(paths({}), "/var/lib/hermesd /run/hermesd/hermes.sock");
}

TEST(ConfigTest, DevKeepsEverythingUnderOneDirectory) {
  const Config config = *DevConfig("/d");
  EXPECT_EQ(config.socket, "/d/hermes.sock");
  for (const std::string& path : {config.state_dir, config.runtime_dir, config.runner.dir}) {
    EXPECT_EQ(path.substr(0, 2), "/d");
  }
  EXPECT_EQ(config.limits, Config::Limits());
}

TEST(ConfigTest, ADevFolderWhoseSocketCannotBeIsAnError) {
  const size_t longest = kMaxSocketPathBytes - std::string("/hermes.sock").size();
  EXPECT_TRUE(DevConfig("/" + std::string(longest - 1, 'x')).ok());
  const absl::Status status = DevConfig("/" + std::string(longest, 'x')).status();
  EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD);
  EXPECT_NE(status.message().find("--dir: socket must be at most 107 bytes"),
            absl::string_view::npos)
      << status;
}

TEST(ConfigTest, LoadsAFileAndNamesOneThatCannotBeRead) {
  TempDir temp;
  const std::string path = temp.path() + "/hermesd.toml";
  const auto missing = LoadConfig(path);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find(path), std::string::npos);
  EXPECT_FALSE(LoadConfig(temp.path()).ok()) << "a directory";
  std::ofstream(path) << "[log]\nlevel = \"error\"\n";
  const auto config = LoadConfig(path);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->log_level, LogLevel::kError);
}

}  // namespace
}  // namespace hermes
