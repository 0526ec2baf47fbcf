// What is refused of the host that a caller names, before anybody looks for it: a table of every
// bad field, and what must be left alone.

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/ssh_spec.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using testing::HasSubstr;
using Options = std::vector<std::pair<std::string, std::string>>;

struct Bad {
  const char* name;
  SshSpec spec;
  const char* field;
  const char* right;  // what the error says would be right
};

void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.name; }

SshSpec With(Options options) { return {.host = "box", .options = std::move(options)}; }

class SshSpecTest : public testing::TestWithParam<Bad> {};

TEST_P(SshSpecTest, IsRefusedByTheNameOfItsField) {
  const Bad& bad = GetParam();
  const absl::Status status = CheckSshSpec(bad.spec, "ssh");
  EXPECT_EQ(ReasonOf(status), Reason::k_BAD_FIELD) << status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MetadataOf(status)["field"], bad.field);
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr(std::string(bad.field) + ": "));
  EXPECT_THAT(text, HasSubstr(bad.right));
  EXPECT_LT(text.size(), 300u);
  for (const char c : text) EXPECT_TRUE(c >= 0x20 && c <= 0x7e) << text;
}

std::string NameOf(const testing::TestParamInfo<Bad>& info) { return info.param.name; }

const std::string kNul("a\0b", 3);

INSTANTIATE_TEST_SUITE_P(
    Host, SshSpecTest,
    testing::Values(
        Bad{"None", {}, "ssh.host", "is required"},
        Bad{"Dash", {.host = "-oProxyCommand=x"}, "ssh.host", "may not have"},
        Bad{"DashAlone", {.host = "-G"}, "ssh.host", "may not begin with '-'"},
        Bad{"Account", {.host = "me@box"}, "ssh.host", "account and port have fields"},
        Bad{"Url", {.host = "ssh://box"}, "ssh.host", "account and port have fields"},
        Bad{"Blank", {.host = "box -oX"}, "ssh.host", "blanks"},
        Bad{"Semicolon", {.host = "box;id"}, "ssh.host", "characters of the shell"},
        Bad{"Dollar", {.host = "$(id)"}, "ssh.host", "characters of the shell"},
        Bad{"Backquote", {.host = "`id`"}, "ssh.host", "quotes"},
        Bad{"Quote", {.host = "b'x"}, "ssh.host", "quotes"},
        Bad{"Backslash", {.host = "b\\x"}, "ssh.host", "characters of the shell"},
        Bad{"Pattern", {.host = "*"}, "ssh.host", "of ssh_config"},
        Bad{"PatternList", {.host = "a,!b"}, "ssh.host", "of ssh_config"},
        Bad{"Comment", {.host = "#box"}, "ssh.host", "of ssh_config"},
        Bad{"Equals", {.host = "=box"}, "ssh.host", "of ssh_config"},
        Bad{"Newline", {.host = "box\nHost *"}, "ssh.host", "may not have"},
        Bad{"Nul", {.host = kNul}, "ssh.host", "may not have"},
        Bad{"Escape", {.host = "b\x1b[31m"}, "ssh.host", "may not have"},
        Bad{"Delete", {.host = "b\x7f"}, "ssh.host", "may not have"},
        Bad{"Long", {.host = std::string(kMaxSshHost + 1, 'h')}, "ssh.host", "255 bytes"}),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    User, SshSpecTest,
    testing::Values(
        Bad{"Dash", {.host = "box", .user = "-me"}, "ssh.user", "may not begin with '-'"},
        Bad{"Blank", {.host = "box", .user = "a b"}, "ssh.user", "blanks"},
        Bad{"Pipe", {.host = "box", .user = "a|b"}, "ssh.user", "characters of the shell"},
        Bad{"Comment", {.host = "box", .user = "#0"}, "ssh.user", "of ssh_config"},
        Bad{"Newline", {.host = "box", .user = "a\nb"}, "ssh.user", "may not have"},
        Bad{"Nul", {.host = "box", .user = kNul}, "ssh.user", "may not have"},
        Bad{"Long",
            {.host = "box", .user = std::string(kMaxSshUser + 1, 'u')},
            "ssh.user",
            "64 bytes"}),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    Fields, SshSpecTest,
    testing::Values(
        Bad{"Port", {.host = "box", .port = 65536}, "ssh.port", "1 to 65535"},
        Bad{"PortMost", {.host = "box", .port = 0xffffffff}, "ssh.port", "1 to 65535"},
        Bad{"RelativeKey", {.host = "box", .key_file = "id"}, "ssh.key_file", "absolute path"},
        Bad{"OptionAsKey", {.host = "box", .key_file = "-oX"}, "ssh.key_file", "absolute path"},
        Bad{"OtherHome", {.host = "box", .key_file = "~me/id"}, "ssh.key_file", "begin with ~/"},
        Bad{"KeyNul", {.host = "box", .key_file = "/" + kNul}, "ssh.key_file", "one line"},
        Bad{"LongKey",
            {.host = "box", .key_file = "/" + std::string(4096, 'k')},
            "ssh.key_file",
            "4096 bytes"},
        Bad{"RelativeConfig",
            {.host = "box", .config_file = "../c"},
            "ssh.config_file",
            "absolute path"},
        Bad{"ConfigNewline",
            {.host = "box", .config_file = "/a\nb"},
            "ssh.config_file",
            "one line"},
        Bad{"HostKey", {.host = "box", .host_key = "no"}, "ssh.host_key", "strict, accept-new"},
        Bad{"ShortPin", {.host = "box", .host_key = "SHA256:abc"}, "ssh.host_key", "43 characters"},
        Bad{"PinForShells",
            {.host = "box", .host_key = "SHA256:" + std::string(42, 'a') + "'"},
            "ssh.host_key",
            "43 characters"},
        Bad{"ConfigOfLibssh2",
            {.host = "box", .transport = SshTransportChoice::kLibssh2, .config_file = "/c"},
            "ssh.transport",
            "use openssh"},
        Bad{"OptionsOfLibssh2",
            {.host = "box", .transport = SshTransportChoice::kLibssh2, .options = {{"A", "b"}}},
            "ssh.transport",
            "use openssh"}),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    Options, SshSpecTest,
    testing::Values(
        Bad{"NoName", With({{"", "x"}}), "ssh.options", "letters and digits"},
        Bad{"Dash", With({{"-F", "x"}}), "ssh.options", "letters and digits"},
        Bad{"TwoInOne", With({{"Port=1 User", "x"}}), "ssh.options", "letters and digits"},
        Bad{"NameNewline", With({{"User\nPort", "x"}}), "ssh.options", "letters and digits"},
        Bad{"NameEscape", With({{"\x1b[2J\xff", "x"}}), "ssh.options", "letters and digits"},
        Bad{"LongName", With({{std::string(65, 'n'), "x"}}), "ssh.options", "at most 64"},
        Bad{"HugeName", With({{std::string(1 << 20, 'n'), "x"}}), "ssh.options", "at most 64"},
        Bad{"Ours", With({{"ControlPath", "/x"}}), "ssh.options", "is set by hermesd"},
        Bad{"OursInCapitals", With({{"BATCHMODE", "no"}}), "ssh.options", "is set by hermesd"},
        Bad{"UserTwice",
            {.host = "box", .user = "a", .options = {{"user", "b"}}},
            "ssh.options",
            "user can't be given beside ssh.user"},
        Bad{"KeyTwice",
            {.host = "box", .key_file = "/k", .options = {{"IdentityFile", "/l"}}},
            "ssh.options",
            "IdentityFile can't be given beside ssh.key_file"},
        Bad{"CardBesideKey",
            {.host = "box", .key_file = "/k", .options = {{"PKCS11Provider", "/l"}}},
            "ssh.options",
            "beside ssh.key_file"},
        Bad{"Match", With({{"Match", "exec id"}}), "ssh.options", "is set by hermesd"},
        Bad{"OneOfTwo", With({{"Ciphers", "x"}, {"LocalForward", "1 b:2"}}), "ssh.options",
            "LocalForward"},
        Bad{"NoValue", With({{"Ciphers", ""}}), "ssh.options", "1 to 1024 bytes"},
        Bad{"ValueNewline", With({{"Ciphers", "x\ny"}}), "ssh.options", "one line"},
        Bad{"ValueNul", With({{"Ciphers", kNul}}), "ssh.options", "one line"},
        Bad{"LongValue", With({{"Ciphers", std::string(kMaxSshOption + 1, 'c')}}), "ssh.options",
            "1 to 1024 bytes"},
        Bad{"TooMany", With(Options(kMaxSshOptions + 1, {"SendEnv", "A"})), "ssh.options",
            "more than 64"}),
    NameOf);

TEST(SshSpecFineTest, WhatPeopleHaveIsLeftAlone) {
  const SshSpec fine[] = {
      {.host = "box"},
      {.host = "fe80::1%eth0", .user = "me@corp.example", .port = 65535},
      {.host = "Box_1.example-a.org", .user = "a.b_c-d", .port = 1},
      {.host = std::string(kMaxSshHost, 'h'), .user = std::string(kMaxSshUser, 'u')},
      {.host = "box", .key_file = "~/.ssh/id of mine", .host_key = "strict"},
      {.host = "box", .key_file = "/" + std::string(4095, 'k')},
      {.host = "box", .host_key = "accept-new", .config_file = "/etc/ssh/ssh_config"},
      {.host = "box", .host_key = "SHA256:" + std::string(41, 'a') + "+/"},
      With({{"ProxyCommand", "nc -X 5 \"$P\" %h %p | cat"}, {"SetEnv", "A='b c'"}}),
      With({{"Ciphers", std::string(kMaxSshOption, 'c')}}),
      With(Options(kMaxSshOptions, {"SendEnv", "A"})),
  };
  for (const SshSpec& spec : fine) EXPECT_EQ(CheckSshSpec(spec, "ssh"), absl::OkStatus());
}

TEST(SshSpecFineTest, NoPortIsThatOfTheConfiguration) {
  EXPECT_EQ(CheckSshSpec({.host = "box", .port = 0}, "ssh"), absl::OkStatus());
}

}  // namespace
}  // namespace hermes
