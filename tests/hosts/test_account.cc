#include "tests/hosts/test_account.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/hosts/processes.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

// Below the ids that systemd gives out, above what people use; inside a container's 65536.
constexpr uid_t kFirstUid = 47000;
constexpr uid_t kLastUid = 47999;
constexpr const char* kStateDir = "/run/hermes-tests";
constexpr const char* kSudoersDir = "/etc/sudoers.d/";
// Where anybody may leave something, and the next account with the uid would find it.
constexpr const char* kPublicFolders[] = {"/tmp", "/var/tmp", "/dev/shm"};

// A line of the list: an account, and the process that must remove it.
struct Entry {
  std::string name;
  uid_t uid = 0;
  std::string home;
  pid_t owner = 0;
  unsigned long long owner_started = 0;
};

// The lock of all that changes accounts, and the list of those that exist.
class Registry {
 public:
  Registry() {
    ::mkdir(kStateDir, 0700);
    path_ = std::string(kStateDir) + "/accounts";
    fd_ = ::open((path_ + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0 || ::flock(fd_, LOCK_EX) != 0) GiveUp("lock " + path_);
    for (const std::string& line : SplitLines(ReadWholeFile(path_))) {
      Entry entry;
      std::istringstream words(line);
      if (words >> entry.name >> entry.uid >> entry.owner >> entry.owner_started >> entry.home)
        entries.push_back(entry);
    }
  }
  ~Registry() { ::close(fd_); }

  void Save() const {
    std::string next = path_ + ".next";
    {
      std::ofstream file(next, std::ios::trunc);
      for (const Entry& entry : entries)
        file << entry.name << ' ' << entry.uid << ' ' << entry.owner << ' ' << entry.owner_started
             << ' ' << entry.home << '\n';
    }
    if (::rename(next.c_str(), path_.c_str()) != 0) GiveUp("write " + path_);
  }

  std::vector<Entry> entries;

 private:
  std::string path_;
  int fd_ = -1;
};

bool BelongsTo(const ProcessFacts& facts, uid_t uid) {
  return facts.real == uid || facts.effective == uid ||
         (facts.effective == 0 && HasEnvironment(facts.pid, "SUDO_UID=" + std::to_string(uid)));
}

bool HasAccount(const Entry& entry) {
  const passwd* found = ::getpwuid(entry.uid);
  return found != nullptr && entry.name == found->pw_name;
}

void RemoveFile(const std::string& path, std::vector<std::string>* left) {
  std::error_code error;
  fs::remove_all(path, error);
  if (fs::exists(fs::symlink_status(path, error))) left->push_back(path);
}

void RemovePublic(uid_t uid, const std::string& home, std::vector<std::string>* left) {
  for (const char* folder : kPublicFolders) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      struct stat facts{};
      if (::lstat(entry.path().c_str(), &facts) != 0 || facts.st_uid != uid) continue;
      if (entry.path() != home) RemoveFile(entry.path(), left);
    }
  }
}

std::vector<std::string> RemoveEntry(const Entry& entry) {
  std::vector<std::string> left;
  uid_t uid = entry.uid;
  for (pid_t pid : KillWhere([uid](const ProcessFacts& facts) { return BelongsTo(facts, uid); }))
    left.push_back("process " + std::to_string(pid));
  RemoveFile(kSudoersDir + entry.name, &left);
  for (const char* folder :
       {"/run/sudo/ts/", "/var/lib/sudo/lectured/", "/var/spool/cron/crontabs/", "/var/mail/"})
    RemoveFile(folder + entry.name, &left);
  if (HasAccount(entry)) {
    Ran ran = RunProgram({.argv = {"userdel", entry.name}});
    if (HasAccount(entry)) left.push_back("account " + entry.name + ": " + ran.err);
  }
  if (::getgrnam(entry.name.c_str()) != nullptr) {
    RunProgram({.argv = {"groupdel", entry.name}});
    if (::getgrnam(entry.name.c_str()) != nullptr) left.push_back("group " + entry.name);
  }
  RemoveFile(entry.home, &left);
  RemovePublic(uid, entry.home, &left);
  RemoveFile(std::string(kAccountRoots) + "/" + entry.name, &left);
  ::rmdir(kAccountRoots);  // when it was the last
  return left;
}

// Of tests that died.
void RemoveAbandoned(Registry* registry) {
  auto abandoned = [](const Entry& entry) {
    ProcessFacts owner;
    bool alive = ReadProcess(entry.owner, &owner) && owner.started == entry.owner_started;
    bool ours = entry.uid >= kFirstUid && entry.uid <= kLastUid;
    return ours && !alive && RemoveEntry(entry).empty();
  };
  registry->entries.erase(
      std::remove_if(registry->entries.begin(), registry->entries.end(), abandoned),
      registry->entries.end());
  registry->Save();
}

bool IsFree(uid_t uid, const Registry& registry) {
  if (::getpwuid(uid) != nullptr || ::getgrgid(uid) != nullptr) return false;
  for (const Entry& entry : registry.entries)
    if (entry.uid == uid) return false;
  for (const ProcessFacts& facts : AllProcesses())
    if (facts.real == uid || facts.effective == uid) return false;
  return true;
}

uid_t FreeUid(const Registry& registry) {
  const uid_t count = kLastUid - kFirstUid + 1;
  const uid_t start = RandomNumber() % count;
  for (uid_t i = 0; i < count; ++i)
    if (uid_t uid = kFirstUid + (start + i) % count; IsFree(uid, registry)) return uid;
  GiveUp("no free uid for a test account");
}

void WriteSudoers(const AccountSpec& spec, const std::string& name) {
  std::string text;
  if (spec.sudo == Sudo::kPassword) text += name + " ALL=(ALL:ALL) ALL\n";
  if (spec.sudo == Sudo::kNoPassword) text += name + " ALL=(ALL:ALL) NOPASSWD: ALL\n";
  for (std::string line : spec.sudoers_lines) {
    for (size_t at; (at = line.find("%u")) != std::string::npos;) line.replace(at, 2, name);
    text += line + "\n";
  }
  if (text.empty()) return;
  const std::string path = kSudoersDir + name;
  const std::string next = path + ".next";  // sudo passes over names with a dot
  std::ofstream(next) << text;
  if (::chmod(next.c_str(), 0440) != 0 || ::rename(next.c_str(), path.c_str()) != 0)
    GiveUp("write " + path);
}

void MustRun(const RunSpec& spec) {
  Ran ran = RunProgram(spec);
  if (ran.status != 0) GiveUp(spec.argv.front() + " failed: " + ran.err);
}

}  // namespace

std::string TestAccount::Unsupported() {
  if (::geteuid() != 0) return "only root can make test accounts";
  if (::access("/usr/sbin/useradd", X_OK) != 0) return "there is no useradd";
  if (::access("/etc/passwd", W_OK) != 0) return "/etc/passwd cannot be written";
  return "";
}

std::unique_ptr<TestAccount> TestAccount::Make(AccountSpec spec) {
  std::unique_ptr<TestAccount> account(new TestAccount);
  account->name_ = RandomName("hermes-t");
  std::string base = spec.home_base.empty() ? fs::temp_directory_path().string() : spec.home_base;
  account->home_ = base + "/" + account->name_;
  ProcessFacts self;
  ReadProcess(::getpid(), &self);
  {
    Registry registry;
    RemoveAbandoned(&registry);
    account->uid_ = FreeUid(registry);
    // Written first: a crash between here and useradd is cleaned up too.
    registry.entries.push_back(
        {account->name_, account->uid_, account->home_, self.pid, self.started});
    registry.Save();
    // '*' fits no password, yet does not lock the account as '!' does.
    MustRun({.argv = {"useradd", "-l", "-M", "-U", "-u", std::to_string(account->uid_), "-p", "*",
                      "-d", account->home_, "-s", spec.shell, account->name_}});
    const group* own = ::getgrnam(account->name_.c_str());
    if (own == nullptr || own->gr_gid != account->uid_) GiveUp("no group with the account's id");
    if (!spec.password.empty())
      MustRun({.argv = {"chpasswd", "-c", "SHA512"},
               .input = account->name_ + ":" + spec.password + "\n"});
    WriteSudoers(spec, account->name_);
  }
  if (::mkdir(account->home_.c_str(), 0700) != 0 ||
      ::chown(account->home_.c_str(), account->uid_, account->uid_) != 0 ||
      ::chmod(account->home_.c_str(), spec.home_mode) != 0)
    GiveUp("make " + account->home_);
  return account;
}

bool TestAccount::IsOwn() { return ::geteuid() != 0 && ::getenv(kOwnAccount) != nullptr; }

std::unique_ptr<TestAccount> TestAccount::Own() {
  const passwd* found = ::getpwuid(::geteuid());
  if (!IsOwn() || found == nullptr || std::string(found->pw_name) != ::getenv(kOwnAccount) ||
      found->pw_uid < kFirstUid || found->pw_uid > kLastUid)
    GiveUp("this process does not run as a test account");
  std::unique_ptr<TestAccount> account(new TestAccount);
  account->name_ = found->pw_name;
  account->uid_ = found->pw_uid;
  account->home_ = found->pw_dir;
  account->own_ = true;
  return account;
}

TestAccount::~TestAccount() {
  std::vector<std::string> remains;
  if (own_) {
    KillProcesses();
    for (const auto& entry : fs::directory_iterator(home_)) fs::remove_all(entry.path());
    RemovePublic(uid_, home_, &remains);
  } else {
    remains = Remove();
  }
  for (const std::string& left : remains) ADD_FAILURE() << name_ << " left behind: " << left;
}

void TestAccount::WriteHomeFile(const std::string& path, const std::string& text,
                                mode_t mode) const {
  fs::path full = home_;
  for (const fs::path& folder : fs::path(path).parent_path()) {
    full /= folder;
    if (::mkdir(full.c_str(), 0700) == 0 && ::chown(full.c_str(), uid_, uid_) != 0)
      GiveUp("chown " + full.string());
  }
  full = fs::path(home_) / path;
  std::ofstream(full, std::ios::binary | std::ios::trunc) << text;
  if (::chown(full.c_str(), uid_, uid_) != 0 || ::chmod(full.c_str(), mode) != 0)
    GiveUp("write " + full.string());
}

void TestAccount::AuthorizeKey(const std::string& public_line) const {
  std::string before = ReadWholeFile(home_ + "/.ssh/authorized_keys");
  WriteHomeFile(".ssh/authorized_keys", before + public_line + "\n", 0600);
}

bool TestAccount::Has(const ProcessFacts& facts) const {
  if (!BelongsTo(facts, uid_)) return false;
  if (!own_) return true;
  // The test's own: itself, its servers with their sessions, its clients.
  for (ProcessFacts at = facts; at.pid > 1;) {
    if (at.pid == ::getpid()) return false;
    if (!ReadProcess(at.parent, &at)) break;
  }
  return true;
}

std::vector<pid_t> TestAccount::Processes() const {
  std::vector<pid_t> pids;
  for (const ProcessFacts& facts : AllProcesses())
    if (Has(facts)) pids.push_back(facts.pid);
  return pids;
}

void TestAccount::KillProcesses() const {
  KillWhere([this](const ProcessFacts& facts) { return Has(facts); });
}

std::vector<std::string> TestAccount::Remove() {
  if (removed_) return {};
  Registry registry;
  std::vector<std::string> left = RemoveEntry({name_, uid_, home_, 0, 0});
  if (!left.empty()) return left;
  auto mine = [this](const Entry& entry) { return entry.name == name_ && entry.uid == uid_; };
  registry.entries.erase(std::remove_if(registry.entries.begin(), registry.entries.end(), mine),
                         registry.entries.end());
  registry.Save();
  removed_ = true;
  return {};
}

}  // namespace hermes
