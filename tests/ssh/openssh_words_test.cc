// What ssh is started with, and what its words mean.

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/ssh/openssh_command.h"
#include "backends/ssh/openssh_failure.h"
#include "backends/ssh/openssh_jumps.h"
#include "backends/ssh/openssh_resolve.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

SshCommand Command(SshSpec spec) {
  return {.program = "ssh", .target = {.spec = std::move(spec), .learned_known_hosts = "/l"}};
}

size_t Place(const std::vector<std::string>& words, const std::string& word) {
  return static_cast<size_t>(std::find(words.begin(), words.end(), word) - words.begin());
}

TEST(OpenSshWordsTest, OursStandBeforeTheCallers) {
  const auto words = MasterWords(Command({.host = "box",
                                          .user = "me",
                                          .port = 2222,
                                          .key_file = "/k",
                                          .config_file = "/c",
                                          .options = {{"batchmode", "no"}, {"Ciphers", "x y"}}}),
                                 "/run/s/0");
  EXPECT_EQ(words.front(), "ssh");
  EXPECT_EQ(words.back(), "box");
  EXPECT_EQ(words[words.size() - 2], "--");
  EXPECT_LT(Place(words, "BatchMode=yes"), Place(words, "batchmode=no"));
  for (const char* word :
       {"-M", "-N", "ControlPath=\"/run/s/0\"", "IdentitiesOnly=yes", "/k", "/c", "2222", "me",
        "Ciphers=x y", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "StdinNull=no",
        "NoHostAuthenticationForLocalhost=no"}) {
    EXPECT_THAT(words, Contains(word));
  }
}

// Of the words of ssh that are set: "-l me" is "User=me".
std::vector<std::string> Options(const std::vector<std::string>& words) {
  const std::pair<std::string_view, std::string> letters[] = {
      {"-l", "User"}, {"-i", "IdentityFile"}, {"-p", "Port"}};
  std::vector<std::string> names;
  for (const std::string& word : words) {
    if (word == "--") break;
    for (const auto& [letter, name] : letters) {
      if (word == letter) names.push_back(name);
    }
    const size_t equals = word.find('=');
    if (equals != std::string::npos) names.push_back(word.substr(0, equals));
  }
  return names;
}

TEST(OpenSshWordsTest, NobodyCanGiveWhatIsSetByUs) {
  for (const char* policy : {"strict", "accept-new", "SHA256:pin"}) {
    const SshSpec given{
        .host = "box", .user = "me", .port = 22, .key_file = "/k", .host_key = policy};
    SshCommand command = Command(given);
    command.user_known_hosts = "/u";
    std::vector<std::string> names = Options(MasterWords(command, "/s"));
    EXPECT_THAT(names, testing::IsSupersetOf({"User", "IdentityFile", "Port", "BatchMode"}));
    // Other names that ssh knows for the same.
    names.insert(names.end(), {"IdentityFile2", "ProtocolKeepAlives", "SetupTimeOut"});
    for (const std::string& name : names) {
      SshSpec spec = given;
      spec.host_key = "strict";
      spec.options = {{name, "x"}};
      EXPECT_EQ(ReasonOf(CheckSshSpec(spec, "ssh")), Reason::k_BAD_FIELD) << name;
    }
  }
}

TEST(OpenSshWordsTest, AccountAndKeysCanBeOptionsWhereNoFieldDecidesThem) {
  const SshSpec spec{.host = "box", .options = {{"User", "me"}, {"IdentityFile", "/a"}}};
  EXPECT_EQ(CheckSshSpec(spec, "ssh"), absl::OkStatus());
}

TEST(OpenSshWordsTest, LeavesToTheUserWhatNobodyGave) {
  const auto words = ResolveWords(Command({.host = "box"}));
  EXPECT_THAT(words, Not(Contains("-p")));
  EXPECT_THAT(words, Not(Contains("-l")));
  EXPECT_THAT(words, Not(Contains("-i")));
  EXPECT_THAT(words, Not(Contains("-F")));
  EXPECT_THAT(words, Not(Contains("IdentitiesOnly=yes")));
}

TEST(OpenSshWordsTest, AcceptNewPutsItsOwnFileFirst) {
  SshCommand command = Command({.host = "box", .host_key = "accept-new"});
  command.user_known_hosts = "/u1 /u2";
  EXPECT_THAT(MasterWords(command, "/s"), Contains("UserKnownHostsFile=\"/l\" \"/u1\" \"/u2\""));
  command.user_known_hosts = "none";
  EXPECT_THAT(MasterWords(command, "/s"), Contains("UserKnownHostsFile=\"/l\""));
}

TEST(OpenSshWordsTest, TellsTheFilesOfAListApart) {
  using Files = std::vector<std::string>;
  EXPECT_EQ(FilesOf("/a ~/b %d/c"), (Files{"/a", "~/b", "%d/c"}));
  EXPECT_EQ(FilesOf("/home/a b/.ssh/k /home/a b/.ssh/k2"),
            (Files{"/home/a b/.ssh/k", "/home/a b/.ssh/k2"}));
  EXPECT_EQ(FilesOf("/x  y"), Files{"/x  y"});
  EXPECT_EQ(FilesOf(""), Files{});
  EXPECT_EQ(QuotedFiles("/a b /c\"d"), "\"/a b\" \"/c\\\"d\"");
  EXPECT_EQ(QuotedFiles("none"), "none");
}

TEST(OpenSshWordsTest, KnowsEveryJumpHostOfALine) {
  const auto jumps = [](const std::string& list) {
    std::string text;
    for (const SshSpec& jump :
         JumpsOf("host typed\nuser me\nhostname h\nport 7\nproxyjump " + list + "\n")) {
      text += jump.user + "@" + jump.host + ":" + std::to_string(jump.port) + " ";
    }
    return text;
  };
  EXPECT_EQ(jumps("none"), "");
  EXPECT_EQ(jumps("a,u@b:2222,[::1]:33"), "@a:0 u@b:2222 @::1:33 ");
  EXPECT_EQ(jumps("ssh://u@a:22/,u@corp@[1.2.3.4],::1"), "u@a:22 u@corp@1.2.3.4:0 @::1:0 ");
  EXPECT_EQ(jumps("%r@%n.gate:%p,100%%,%h"), "me@typed.gate:7 @100%:0 @h:0 ");
  EXPECT_EQ(JumpsOf("hostname h\n").size(), 0u);
  EXPECT_TRUE(IsProxied("proxycommand nc %h %p\n"));
  EXPECT_FALSE(IsProxied("proxyusefdpass no\nproxycommand none\n"));
}

TEST(OpenSshWordsTest, EveryJumpGetsOurWordsThroughTheShellWhole) {
  SshCommand command = Command({.host = "box", .options = {{"Compression", "yes"}}});
  command.jumps = {{.spec = {.host = "a", .user = "it's me", .config_file = "/c d"}},
                   {.spec = {.host = "b", .host_key = "accept-new"}, .user_known_hosts = "/u"}};
  EXPECT_THAT(MasterWords(command, "/s"),
              Contains("ProxyCommand=/bin/sh -c \"$HERMESD_JUMPS\" sh 2 '[%h]:%p'"));
  const std::string script = JumpScript(command);
  const size_t second = script.find(" 2) exec ");
  ASSERT_NE(second, std::string::npos) << script;
  const std::string a = script.substr(0, second), b = script.substr(second);
  for (const char* words : {"1) exec 'ssh' -W \"$2\" ", " '-l' 'it'\\''s me'", " '-F' '/c d'",
                            "'--' 'a' ;;", "'BatchMode=yes'", "'StrictHostKeyChecking=yes'"}) {
    EXPECT_THAT(a, HasSubstr(words));
  }
  for (const char* words :
       {" sh 1 ", "'StrictHostKeyChecking=accept-new'", "'UserKnownHostsFile=\"/l\" \"/u\"'"}) {
    EXPECT_THAT(b, HasSubstr(words));
  }
  EXPECT_THAT(a, Not(HasSubstr("ProxyCommand")));
  EXPECT_THAT(script, Not(HasSubstr("Compression"))) << "the target's own";
  EXPECT_THAT(script, Not(HasSubstr("\n"))) << "every shell passes one line on";
}

TEST(OpenSshWordsTest, ReadsVersions) {
  EXPECT_EQ(OpenSshVersion("OpenSSH_9.2p1 Debian-2, OpenSSL 3"), 902);
  EXPECT_EQ(OpenSshVersion("OpenSSH_10.5p1, LibreSSL"), 1005);
  EXPECT_EQ(OpenSshVersion("OpenSSH_for_Windows_8.1"), 0);
  EXPECT_EQ(OpenSshVersion("OpenSSH_9"), 0);
  EXPECT_EQ(OpenSshVersion("OpenSSH_9."), 0);
  EXPECT_EQ(OpenSshVersion("OpenSSH_99999999999999999999.1"), 0);
  EXPECT_EQ(OpenSshVersion("Dropbear"), 0);
}

TEST(OpenSshWordsTest, ReadsWhatSshResolved) {
  const auto parsed = ParseResolved({},
                                    "host box\nuser me\nhostname 10.0.0.1\nport 2222\n"
                                    "controlpath /x\nuserknownhostsfile /a /b\nbare\n");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->facts.host, "10.0.0.1");
  EXPECT_EQ(parsed->facts.user, "me");
  EXPECT_EQ(parsed->facts.port, 2222u);
  EXPECT_EQ(parsed->user_known_hosts, "/a /b");
  EXPECT_THAT(parsed->facts.known_hosts_files, testing::IsSupersetOf({"/a", "/b"}));
  const auto other = ParseResolved({},
                                   "host box\nuser me\nhostname 10.0.0.1\nport 2222\n"
                                   "controlpath /y\nuserknownhostsfile /a /b\nbare");
  EXPECT_EQ(other->facts.sharing_key, parsed->facts.sharing_key);
  EXPECT_EQ(ReasonOf(ParseResolved({}, "nonsense").status()), Reason::k_BACKEND_UNREACHABLE);
}

TEST(OpenSshWordsTest, AliasesOfOneAccountShareUnlessTheNameItselfIsUsed) {
  const auto key = [](const std::string& typed, const std::string& rest) {
    return ParseResolved({}, "host " + typed + "\nhostname h\nuser u\n" + rest)->facts.sharing_key;
  };
  EXPECT_EQ(key("a", ""), key("b", ""));
  EXPECT_NE(key("a", ""), key("a", "hostkeyalias x\n"));
  for (const std::string rest :
       {"proxycommand nc %n 22\n", "knownhostscommand /bin/k %k\n", "identityfile ~/.ssh/%n\n"}) {
    EXPECT_NE(key("a", rest), key("b", rest)) << rest;
    EXPECT_EQ(key("a", rest), key("a", rest)) << rest;
  }
}

TEST(OpenSshWordsTest, PutsAesFirstAmongWhatIsAcceptedWhereTheCpuHasIt) {
  const std::string usual = "chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com";
  EXPECT_EQ(FastestFirst(usual, true),
            "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr");
  EXPECT_EQ(FastestFirst(usual, false), "");
  EXPECT_EQ(FastestFirst("aes256-ctr,aes128-gcm@openssh.com", true), "") << "somebody's own order";
  EXPECT_EQ(FastestFirst("chacha20-poly1305@openssh.com,aes128-ctr", true), "");
  EXPECT_EQ(FastestFirst("", true), "");
}

absl::Status Of(std::string words, SshSpec spec = {.host = "box"}) {
  return Explain({.spec = std::move(spec),
                  .resolved = {.host = "10.0.0.1", .user = "me", .port = 22, .sharing_key = ""},
                  .words = std::move(words)});
}

TEST(OpenSshWordsTest, NamesEveryFailure) {
  const std::pair<const char*, Reason> cases[] = {
      {"ssh: connect to host 10.0.0.1 port 22: Connection refused\r\n",
       Reason::k_BACKEND_UNREACHABLE},
      {"ssh: Could not resolve hostname box: Name or service not known\r\n",
       Reason::k_BACKEND_UNREACHABLE},
      {"me@10.0.0.1: Permission denied (publickey).\r\n", Reason::k_BACKEND_AUTH_FAILED},
      {"Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\r\n"
       "Disconnected from 10.0.0.1 port 22\r\n",
       Reason::k_BACKEND_AUTH_FAILED},
      {"No ED25519 host key is known for box and you have requested strict checking.\r\n"
       "Host key verification failed.\r\n",
       Reason::k_HOST_KEY_UNKNOWN},
      {"@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@@@\r\n"
       "Host key verification failed.\r\n",
       Reason::k_HOST_KEY_CHANGED},
      {"@       WARNING: REVOKED HOST KEY DETECTED!               @\r\n"
       "Host key verification failed.\r\n",
       Reason::k_HOST_KEY_CHANGED},
      {"/c: line 3: Bad configuration option: foo\r\n", Reason::k_BAD_FIELD},
      {"command-line line 0: Bad number.\r\n", Reason::k_BAD_FIELD},
      {"", Reason::k_BACKEND_UNREACHABLE},
  };
  for (const auto& [words, reason] : cases) EXPECT_EQ(ReasonOf(Of(words)), reason) << words;
}

// Over "a", then "b", as far as `reached` of the three.
SshFailure Way(size_t reached, std::string words) {
  const auto jump = [](std::string name, std::string host) {
    return SshJump{.spec = {.host = name}, .resolved = {.host = host, .user = "j", .port = 22}};
  };
  return {.spec = {.host = "box"},
          .resolved = {.host = "10.0.0.9", .user = "me", .port = 22},
          .jumps = {jump("a", "10.0.0.1"), jump("b", "10.0.0.2")},
          .reached = reached,
          .words = std::move(words)};
}
absl::Status OnTheWay(size_t reached, std::string words) {
  return Explain(Way(reached, std::move(words)));
}

TEST(OpenSshWordsTest, NamesTheHostOfTheWayThatFailed) {
  const std::string closed =
      "kex_exchange_identification: Connection closed by remote host\r\n"
      "Connection closed by UNKNOWN port 65535\r\n";
  const std::string silent =
      "Connection timed out during banner exchange\r\n"
      "Connection to UNKNOWN port 65535 timed out\r\n";
  struct {
    size_t reached;
    std::string words;
    const char* beginning;
  } const cases[] = {
      {0, "ssh: connect to host 10.0.0.1 port 22: Connection refused\r\n" + closed,
       "the jump host a (10.0.0.1:22) can't be reached (ssh"},
      {0, "ssh: Could not resolve hostname a: Name or service not known\r\n" + closed,
       "the jump host a (10.0.0.1:22) can't be reached (ssh"},
      {0, closed, "the jump host a (10.0.0.1:22) closed the connection before"},
      {0, "channel 0: open failed: connect failed: Connection refused\r\n" + closed,
       "the jump host b (10.0.0.2:22) can't be reached from the jump host a"},
      {1, "j@10.0.0.1: Permission denied (publickey).\r\n" + closed,
       "the jump host a (10.0.0.1:22) refuses to log in j"},
      {1, "Connection closed by 10.0.0.1 port 22\r\n" + closed,
       "the jump host a (10.0.0.1:22) closed the connection before"},
      {1, "Unable to negotiate with 10.0.0.1 port 22: no matching cipher found.\r\n" + closed,
       "the jump host a (10.0.0.1:22) and ssh have no algorithm in common"},
      {1, "stdio forwarding failed\r\n" + closed,
       "the jump host b (10.0.0.2:22) can't be reached from the jump host a"},
      {1, silent, "the jump host b (10.0.0.2:22) can't be reached from the jump host a"},
      {2, "No ED25519 host key is known for b and you\r\nHost key verification failed.\r\n",
       "the key of the jump host b (10.0.0.2:22) is not in known_hosts. Look at it on a with `"},
      {2, closed, "10.0.0.9:22 closed the connection from the jump host b before"},
      {3, "me@10.0.0.9: Permission denied (publickey).\r\n",
       "the host refuses to log in me@10.0.0.9:22"},
  };
  for (const auto& [reached, words, beginning] : cases) {
    EXPECT_THAT(std::string(OnTheWay(reached, words).message()), testing::StartsWith(beginning));
  }
}

// Of a login that the host may count it costs the more, unless it is known to have come to no key.
TEST(OpenSshWordsTest, KnowsWhatAHostMayCountAgainstUs) {
  const std::string closed = "Connection closed by UNKNOWN port 65535\r\n";
  struct {
    size_t reached;
    std::string words;
    int left;
    int refused;
  } const cases[] = {
      {0, "ssh: connect to host 10.0.0.1 port 22: Connection refused\r\n" + closed, 0, 0},
      {0, closed, 0, 0},
      {0, "", 0, 0},
      {1, "", 0, 1},
      {1, "j@10.0.0.1: Permission denied (publickey).\r\n" + closed, 0, 1},
      {1, "Connection closed by 10.0.0.1 port 22\r\n" + closed, 0, 1},
      {1, "Unable to negotiate with 10.0.0.1 port 22: no matching cipher found.\r\n", 1, 0},
      {1, "stdio forwarding failed\r\n" + closed, 0, 0},
      {1, "Connection timed out during banner exchange\r\n", 0, 0},
      {2, closed, 0, 1},
      {2, "Host key verification failed.\r\n", 1, 0},
      {3, "Connection reset by 10.0.0.9 port 22\r\n", 0, 1},
      {3, "", 0, 1},
  };
  for (const auto& [reached, words, left, refused] : cases) {
    const SshTries tries = TriesOf(Way(reached, words));
    EXPECT_EQ(tries.left, left) << reached << words;
    EXPECT_EQ(tries.refused, refused) << reached << words;
  }
  SshFailure lost = Way(3, "Connection reset by 10.0.0.9 port 22\r\n");
  lost.logged_in = true;
  EXPECT_EQ(TriesOf(lost).refused, 0) << "it had let us in";
}

TEST(OpenSshWordsTest, WhatAProxyCommandSaysIsNotSaidOfTheTarget) {
  const auto failure = [](size_t reached, std::string words) {
    return Explain({.spec = {.host = "box"},
                    .resolved = {.host = "10.0.0.1", .user = "me", .port = 22},
                    .proxied = true,
                    .reached = reached,
                    .words = std::move(words)});
  };
  const absl::Status status = failure(0, "Host key verification failed.\r\n");
  EXPECT_EQ(ReasonOf(status), Reason::k_HOST_KEY_UNKNOWN);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ProxyCommand"));
  EXPECT_EQ(ReasonOf(failure(0, "j@a: Permission denied (publickey).\r\n")),
            Reason::k_BACKEND_AUTH_FAILED);
  EXPECT_EQ(ReasonOf(failure(0, "")), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_THAT(std::string(failure(1, "Host key verification failed.\r\n").message()),
              HasSubstr("the key of 10.0.0.1:22 is not in known_hosts"));
}

TEST(OpenSshWordsTest, APinsFailureShowsTheHostsKey) {
  const SshSpec spec = {.host = "box", .host_key = "SHA256:pinned"};
  const absl::Status status = Of(
      "hermesd-host-key ssh-ed25519 SHA256:shown\nNo ED25519 host key is known for box\r\n", spec);
  EXPECT_EQ(ReasonOf(status), Reason::k_HOST_KEY_CHANGED);
  EXPECT_THAT(std::string(status.message()), HasSubstr("SHA256:shown"));
  EXPECT_EQ(MetadataOf(status).at(std::string(kShownType)), "ssh-ed25519");
  EXPECT_EQ(RefusedByPin("hermesd-host-key \nhermesd-host-key x\n").fingerprint, "");
}

TEST(OpenSshWordsTest, KnowsTheServerByItsFirstLine) {
  const std::string words =
      "debug1: kex.c:kex_exchange_identification():1347 (pid=7): Local version string SSH-2.0-O\n"
      "debug1: kex.c:kex_exchange_identification():1456 (pid=7): Remote protocol version 2.0, "
      "remote software version dropbear_2022.83\n"
      "me@box: Permission denied (publickey).\n";
  EXPECT_EQ(ServerVersion(words), "dropbear_2022.83");
  EXPECT_TRUE(MixesPrograms(ServerVersion(words)));
  EXPECT_EQ(WithoutFirstLines(words), "me@box: Permission denied (publickey).\n");
  EXPECT_EQ(WithoutFirstLines("debug1: kex.c:kex_exchange_identification():1332 (pid=7): write: "
                              "Connection reset by peer\r\n"),
            "kex_exchange_identification: write: Connection reset by peer\n");
  EXPECT_EQ(ServerVersion("a banner: remote software version dropbear_1\n"), "");
  const std::string behind =
      "debug1: kex.c:kex_exchange_identification():1456 (pid=9): Remote protocol version 2.0, "
      "remote software version OpenSSH_9.2\n";
  EXPECT_EQ(ServerVersion(words + behind), "OpenSSH_9.2") << "the first was a jump's";
  EXPECT_EQ(HostsReached("", 1, 9), 0u);
  EXPECT_EQ(HostsReached(words, 1, 9), 1u);
  EXPECT_EQ(HostsReached(words + behind, 2, 8), 2u);
  EXPECT_EQ(HostsReached(behind, 2, 9), 3u) << "a master of the user's led over the jumps";
  EXPECT_FALSE(MixesPrograms("OpenSSH_9.2p1 Debian-2+deb12u10"));
  EXPECT_FALSE(MixesPrograms(""));
}

TEST(OpenSshWordsTest, WordsOfAHostBecomeOneCleanLine) {
  EXPECT_EQ(OneLine("a\r\n\r\nb\x1b[31m\n@@@@\n"), "a; b?[31m");
  EXPECT_LT(OneLine(std::string(100'000, 'x')).size(), 2000u);
}

}  // namespace
}  // namespace hermes
