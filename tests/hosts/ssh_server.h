#pragma once

// Real SSH servers on 127.0.0.1 for tests: OpenSSH's sshd and Dropbear, each with host keys and
// configuration in a temporary folder of its own. As root they serve test accounts; as a plain user
// (or with `run_as`) only that user. A server belongs to the thread that started it and dies with
// it. Servers must go before the accounts they serve; what a session's command left running is
// ended by the account.

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/hosts/test_account.h"

namespace hermes {

// A key pair made by ssh-keygen in `folder`: NAME and NAME.pub.
struct SshKey {
  // `type`: ed25519, ecdsa or rsa. `passphrase` empty: none.
  static SshKey Make(const std::string& folder, const std::string& name,
                     const std::string& type = "ed25519", const std::string& passphrase = "");
  // Makes the private half readable for this account only, so that its ssh takes it.
  void GiveTo(const TestAccount& account) const;

  std::string private_path;
  std::string public_line;
};

// Who may log in, with which public keys.
struct SshLogin {
  std::string user;
  std::vector<std::string> public_lines;
};

class SshServer {
 public:
  virtual ~SshServer();
  SshServer(const SshServer&) = delete;
  SshServer& operator=(const SshServer&) = delete;

  std::string host() const { return "127.0.0.1"; }
  int port() const { return port_; }

  // Lines for known_hosts, one per host key; `port` 0: the server's own (a proxy has another).
  std::string KnownHosts(int port = 0) const;
  // The public half of a host key: "ssh-ed25519 AAAA...".
  const std::vector<std::string>& host_keys() const { return host_keys_; }

  pid_t pid() const { return pid_; }
  // The server's processes for connections, login phase included.
  std::vector<pid_t> SessionPids() const;
  // SIGKILL to them: the connections are cut, the commands live on. The server goes on.
  void KillSessions() const;

  // The server and its sessions are gone when this returns. Safe to call twice.
  void Stop();
  // Stop and start again on the same port, as a host that rebooted; optionally with new host keys.
  void Restart(bool new_host_keys = false);

  // All that the server wrote so far.
  std::string Log() const;
  const std::string& folder() const { return folder_; }

 protected:
  SshServer(std::string program_name, uid_t run_as);
  // Picks a free port, starts, waits for the banner; several tries. Aborts with the log otherwise.
  void StartSomewhere();
  // The program's words to listen at port_; writes the configuration.
  virtual std::vector<std::string> Prepare() = 0;
  virtual void MakeHostKeys() = 0;
  // What the log holds when it listens.
  virtual const char* ReadyWord() const = 0;
  void GiveToServer(const std::string& path) const;

  std::string folder_;
  std::vector<std::string> host_keys_;
  int port_ = 0;
  uid_t run_as_;
  std::string cookie_;  // in the environment of what non-root servers start

 private:
  bool StartAtPort();

  std::string program_name_;
  pid_t pid_ = 0;
};

struct OpenSshOptions {
  std::vector<SshLogin> logins;
  // sshd_config lines; they stand before ours, and sshd takes the first.
  std::vector<std::string> lines = {};
  std::vector<std::string> match_lines = {};  // Match blocks, after all others
  bool use_pam = false;
  std::vector<std::string> host_key_types = {"ed25519"};
  const TestAccount* run_as = nullptr;  // root only: the server is this account's
  // Shell text run as root before sshd, in a mount namespace of its own; empty: none is made.
  std::string in_namespace = {};
};

class OpenSshServer : public SshServer {
 public:
  static std::string Unsupported();  // empty, or why not: for GTEST_SKIP
  static std::unique_ptr<OpenSshServer> Start(OpenSshOptions options);

  // 902 for 9.2. ChannelTimeout came with 902, PerSourcePenalties with 908.
  static int Version();

 private:
  explicit OpenSshServer(OpenSshOptions options);
  std::vector<std::string> Prepare() override;
  void MakeHostKeys() override;
  const char* ReadyWord() const override { return "Server listening on"; }

  OpenSshOptions options_;
};

struct DropbearOptions {
  // Their authorized_keys in the home are written by the caller: TestAccount::AuthorizeKey.
  std::vector<std::string> host_key_types = {"ed25519"};
  std::vector<std::string> words = {};  // more of its command line
  const TestAccount* run_as = nullptr;
};

class DropbearServer : public SshServer {
 public:
  static std::string Unsupported();
  static std::unique_ptr<DropbearServer> Start(DropbearOptions options = {});

 private:
  explicit DropbearServer(DropbearOptions options);
  std::vector<std::string> Prepare() override;
  void MakeHostKeys() override;
  const char* ReadyWord() const override { return "Not backgrounding"; }

  DropbearOptions options_;
};

}  // namespace hermes
