#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_server.h"

namespace hermes {
namespace {

constexpr const char* kSshd = "/usr/sbin/sshd";
// sshd wants it when it runs as root; the system's service makes the same one.
constexpr const char* kSeparationDir = "/run/sshd";

uid_t ServerUid(const TestAccount* run_as) { return run_as ? run_as->uid() : ::geteuid(); }

std::string KeyPath(const std::string& folder, const std::string& type) {
  return folder + "/host_" + type;
}

}  // namespace

std::string OpenSshServer::Unsupported() {
  if (::access(kSshd, X_OK) != 0) return "there is no sshd";
  return "";
}

int OpenSshServer::Version() {
  Ran ran = RunProgram({.argv = {kSshd, "-V"}});  // older ones print it with the usage
  std::string text = ran.out + ran.err;
  size_t at = text.find("OpenSSH_");
  if (at == std::string::npos) return 0;
  int major = 0, minor = 0;
  std::sscanf(text.c_str() + at, "OpenSSH_%d.%d", &major, &minor);
  return major * 100 + minor;
}

OpenSshServer::OpenSshServer(OpenSshOptions options)
    : SshServer("sshd", ServerUid(options.run_as)), options_(std::move(options)) {}

std::unique_ptr<OpenSshServer> OpenSshServer::Start(OpenSshOptions options) {
  if (::geteuid() == 0) ::mkdir(kSeparationDir, 0755);
  std::unique_ptr<OpenSshServer> server(new OpenSshServer(std::move(options)));
  server->MakeHostKeys();
  server->StartSomewhere();
  return server;
}

void OpenSshServer::MakeHostKeys() {
  host_keys_.clear();
  for (const std::string& type : options_.host_key_types) {
    std::filesystem::remove(KeyPath(folder_, type));
    SshKey key = SshKey::Make(folder_, "host_" + type, type);
    GiveToServer(key.private_path);
    host_keys_.push_back(key.public_line);
  }
}

std::vector<std::string> OpenSshServer::Prepare() {
  const std::string keys = folder_ + "/authorized";
  ::mkdir(keys.c_str(), 0755);
  for (const SshLogin& login : options_.logins) {
    std::ofstream file(keys + "/" + login.user);
    for (const std::string& line : login.public_lines) file << line << '\n';
  }
  std::ofstream config(folder_ + "/sshd_config");
  for (const std::string& line : options_.lines) config << line << '\n';
  config << "ListenAddress 127.0.0.1\nPort " << port_ << "\nPidFile none\nLogLevel VERBOSE\n"
         << "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
         << "PrintMotd no\nUseDNS no\nSubsystem sftp internal-sftp\n"
         << "UsePAM " << (options_.use_pam ? "yes" : "no") << "\n"
         << "AuthorizedKeysFile " << keys << "/%u\n";
  if (run_as_ != 0) config << "SetEnv " << cookie_ << "\n";
  for (const std::string& type : options_.host_key_types)
    config << "HostKey " << KeyPath(folder_, type) << '\n';
  for (const std::string& line : options_.match_lines) config << line << '\n';

  std::vector<std::string> words = {kSshd, "-D", "-e", "-f", folder_ + "/sshd_config"};
  if (!options_.in_namespace.empty()) {
    std::string script = options_.in_namespace + "\nexec \"$@\"";
    words.insert(words.begin(), {"unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec",
                                 script, "sh"});
  }
  return words;
}

}  // namespace hermes
