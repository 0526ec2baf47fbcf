#include "tests/hosts/busybox_root.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/hosts/processes.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBusybox = "/bin/busybox";
constexpr const char* kDevices[] = {"null", "zero", "urandom"};

void MakeFolder(const std::string& path, mode_t mode) {
  fs::create_directories(path);
  if (::chmod(path.c_str(), mode) != 0) GiveUp("make " + path);
}

}  // namespace

std::string BusyboxRoot::Unsupported() {
  if (std::string why = TestAccount::Unsupported(); !why.empty()) return why;
  if (::access(kBusybox, X_OK) != 0) return "there is no busybox";
  if (RunProgram({.argv = {"unshare", "--mount", "--propagation", "private", "true"}}).status != 0)
    return "mount namespaces are refused here";
  return "";
}

BusyboxRoot::BusyboxRoot(const TestAccount& account)
    : path_(std::string(kAccountRoots) + "/" + account.name()) {
  ::mkdir(kAccountRoots, 0755);
  for (const char* folder : {"", "/bin", "/dev", "/etc", "/proc"}) MakeFolder(path_ + folder, 0755);
  MakeFolder(path_ + "/tmp", 01777);
  MakeFolder(path_ + account.home(), 0755);
  if (::chown((path_ + account.home()).c_str(), account.uid(), account.gid()) != 0)
    GiveUp("chown the home in " + path_);
  fs::create_directory_symlink("bin", path_ + "/sbin");
  fs::create_directory_symlink(".", path_ + "/usr");

  fs::copy_file(kBusybox, path_ + "/bin/busybox");
  for (const std::string& applet : SplitLines(RunProgram({.argv = {kBusybox, "--list"}}).out))
    if (applet != "busybox") fs::create_symlink("busybox", path_ + "/bin/" + applet);
  for (const char* device : kDevices) std::ofstream(path_ + "/dev/" + device).flush();
  const std::string id = std::to_string(account.uid());
  std::ofstream(path_ + "/etc/passwd")
      << "root:x:0:0:root:/:/bin/sh\n"
      << account.name() << ":x:" << id << ":" << id << "::" << account.home() << ":/bin/sh\n";
  std::ofstream(path_ + "/etc/group") << "root:x:0:\n" << account.name() << ":x:" << id << ":\n";
}

void BusyboxRoot::Configure(OpenSshOptions* options) const {
  options->lines.push_back("ChrootDirectory " + path_);
  std::string script;
  for (const char* device : kDevices)
    script += "mount --bind /dev/" + std::string(device) + " " + path_ + "/dev/" + device + "\n";
  script += "mount --bind /proc " + path_ + "/proc\n";
  options->in_namespace = script;
}

}  // namespace hermes
