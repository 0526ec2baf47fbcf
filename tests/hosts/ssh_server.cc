#include "tests/hosts/ssh_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/hosts/processes.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

constexpr int kStartTries = 20;
constexpr int kQuietLimitMs = 30'000;  // a server that starts and says nothing has failed
constexpr int kBannerLimitMs = 10'000;

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

int FreePort() {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    GiveUp("bind a free port");
  ::close(fd);
  return ntohs(address.sin_port);
}

bool AnswersWithBanner(int port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(port);
  std::string text;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    pollfd wait{fd, POLLIN, 0};
    char bytes[256];
    while (text.find('\n') == std::string::npos && ::poll(&wait, 1, kBannerLimitMs) == 1) {
      ssize_t got = ::read(fd, bytes, sizeof(bytes));
      if (got <= 0) break;
      text.append(bytes, static_cast<size_t>(got));
    }
  }
  ::close(fd);
  return text.rfind("SSH-2.0-", 0) == 0;
}

}  // namespace

SshKey SshKey::Make(const std::string& folder, const std::string& name, const std::string& type,
                    const std::string& passphrase) {
  SshKey key;
  key.private_path = folder + "/" + name;
  Ran ran = RunProgram({.argv = {"ssh-keygen", "-q", "-t", type, "-N", passphrase, "-C", name, "-f",
                                 key.private_path}});
  if (ran.status != 0) GiveUp("ssh-keygen: " + ran.err);
  key.public_line = SplitLines(ReadWholeFile(key.private_path + ".pub")).front();
  return key;
}

void SshKey::GiveTo(const TestAccount& account) const {
  if (::chown(private_path.c_str(), account.uid(), account.gid()) != 0)
    GiveUp("chown " + private_path);
}

SshServer::SshServer(std::string program_name, uid_t run_as)
    : run_as_(run_as),
      cookie_(RandomName("HERMES_TEST_SERVER=")),
      program_name_(std::move(program_name)) {
  std::string name = (fs::temp_directory_path() / "hermes-host-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) GiveUp("make " + name);
  folder_ = name;
  GiveToServer(folder_);
  ::chmod(folder_.c_str(), 0755);  // sshd reads the authorized keys as the account
}

SshServer::~SshServer() {
  Stop();
  std::error_code error;
  fs::remove_all(folder_, error);
}

void SshServer::GiveToServer(const std::string& path) const {
  if (run_as_ != ::geteuid() && ::chown(path.c_str(), run_as_, run_as_) != 0)
    GiveUp("chown " + path);
}

std::string SshServer::KnownHosts(int port) const {
  std::string text;
  for (const std::string& key : host_keys_)
    text += "[" + host() + "]:" + std::to_string(port == 0 ? port_ : port) + " " + key + "\n";
  return text;
}

std::vector<pid_t> SshServer::SessionPids() const {
  std::vector<pid_t> pids;
  if (pid_ == 0) return pids;
  for (const ProcessFacts& facts : DescendantsOf(pid_))  // newer sshd: sshd-session, sshd-auth
    if (facts.name.rfind(program_name_, 0) == 0) pids.push_back(facts.pid);
  return pids;
}

void SshServer::KillSessions() const {
  // All are found before the first dies: its children are not ours to find then. Stopped ones start
  // no new ones meanwhile.
  std::vector<pid_t> pids, before;
  do {
    before = pids;
    pids = SessionPids();
    for (pid_t pid : pids) ::kill(pid, SIGSTOP);
  } while (pids != before);
  std::set<pid_t> doomed(pids.begin(), pids.end());
  KillWhere([&](const ProcessFacts& facts) { return doomed.count(facts.pid) != 0; });
}

void SshServer::Stop() {
  if (pid_ == 0) return;
  KillSessions();         // the server still reaps them
  ::kill(pid_, SIGSTOP);  // and now no new ones
  KillSessions();
  KillChild(pid_);
  pid_ = 0;
  if (run_as_ == 0) return;
  // Nobody else ends what the commands of a plain user's server left behind.
  uid_t uid = run_as_;
  std::string cookie = cookie_;
  KillWhere([uid, cookie](const ProcessFacts& facts) {
    return facts.real == uid && HasEnvironment(facts.pid, cookie);
  });
}

void SshServer::Restart(bool new_host_keys) {
  Stop();
  if (new_host_keys) MakeHostKeys();
  for (int attempt = 0; attempt < kStartTries; ++attempt)
    if (StartAtPort()) return;
  GiveUp("start again at the same port:\n" + Log());
}

std::string SshServer::Log() const { return ReadWholeFile(folder_ + "/log"); }

void SshServer::StartSomewhere() {
  for (int attempt = 0; attempt < kStartTries; ++attempt) {
    port_ = FreePort();
    if (StartAtPort()) return;
  }
  GiveUp("start " + program_name_ + ":\n" + Log());
}

// False: it ended instead, most often because somebody else took the port meanwhile.
bool SshServer::StartAtPort() {
  const std::string log = folder_ + "/log";
  const size_t before = Log().size();
  std::ofstream(log, std::ios::app).flush();
  SpawnSpec spec;
  spec.argv = Prepare();
  spec.log = log;
  spec.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", cookie_};
  if (run_as_ != ::geteuid()) spec.uid = spec.gid = run_as_;
  pid_ = Spawn(spec);
  if (pid_ == 0) return false;
  FileWatch watch(log, pid_);
  // The log first: a banner alone could be that of somebody else who has the port.
  auto ready = [&] { return Log().find(ReadyWord(), before) != std::string::npos; };
  while (!ready() && watch.Wait(kQuietLimitMs)) {
  }
  if (ready() && AnswersWithBanner(port_)) return true;
  Stop();
  return false;
}

}  // namespace hermes
