#pragma once

// SshClient: the plain ssh program with a key and a known_hosts of its own and no other
// configuration. What the hosts are proved with, and what speed is compared with.

#include <fstream>
#include <string>
#include <vector>

#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_server.h"

namespace hermes {

class SshClient {
 public:
  SshClient() : key_(SshKey::Make(dir_.path(), "key")) {}

  // To log in at `server`; `port` of a proxy before it, or 0. More words may follow.
  std::vector<std::string> Words(const SshServer& server, const TestAccount& account,
                                 int port = 0) const {
    std::ofstream(known_hosts()) << server.KnownHosts(port);
    return {"ssh",
            "-F",
            "none",
            "-oBatchMode=yes",
            "-oUserKnownHostsFile=" + known_hosts(),
            "-oGlobalKnownHostsFile=none",
            "-oStrictHostKeyChecking=yes",
            "-oIdentitiesOnly=yes",
            "-oKexAlgorithms=curve25519-sha256",  // the default costs 0.1 s of processor each
            "-i" + key_.private_path,
            "-p" + std::to_string(port == 0 ? server.port() : port),
            account.name() + "@" + server.host()};
  }
  Ran Execute(const SshServer& server, const TestAccount& account, const std::string& command,
              int port = 0) const {
    std::vector<std::string> words = Words(server, account, port);
    words.push_back(command);
    return RunProgram({.argv = words});
  }

  OpenSshOptions Serving(const TestAccount& account) const {
    OpenSshOptions options;
    options.logins = {{account.name(), {key_.public_line}}};
    return options;
  }

  const SshKey& key() const { return key_; }
  const std::string& folder() const { return dir_.path(); }
  std::string known_hosts() const { return dir_.path() + "/known_hosts"; }

 private:
  TempDir dir_;
  SshKey key_;
};

}  // namespace hermes
