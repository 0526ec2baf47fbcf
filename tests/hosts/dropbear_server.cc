#include <unistd.h>

#include <filesystem>

#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_server.h"

namespace hermes {
namespace {

constexpr const char* kDropbear = "/usr/sbin/dropbear";

std::string KeyPath(const std::string& folder, const std::string& type) {
  return folder + "/host_" + type;
}

}  // namespace

std::string DropbearServer::Unsupported() {
  if (::access(kDropbear, X_OK) != 0) return "there is no dropbear";
  return "";
}

DropbearServer::DropbearServer(DropbearOptions options)
    : SshServer("dropbear", options.run_as ? options.run_as->uid() : ::geteuid()),
      options_(std::move(options)) {}

std::unique_ptr<DropbearServer> DropbearServer::Start(DropbearOptions options) {
  std::unique_ptr<DropbearServer> server(new DropbearServer(std::move(options)));
  server->MakeHostKeys();
  server->StartSomewhere();
  return server;
}

void DropbearServer::MakeHostKeys() {
  host_keys_.clear();
  for (const std::string& type : options_.host_key_types) {
    const std::string path = KeyPath(folder_, type);
    std::filesystem::remove(path);
    Ran ran = RunProgram({.argv = {"dropbearkey", "-t", type, "-f", path}});
    if (ran.status != 0) GiveUp("dropbearkey: " + ran.err);
    GiveToServer(path);
    for (const std::string& line : SplitLines(ran.out))  // "TYPE BASE64 COMMENT" among other lines
      if (line.rfind("ssh-", 0) == 0 || line.rfind("ecdsa-", 0) == 0)
        host_keys_.push_back(line.substr(0, line.find(' ', line.find(' ') + 1)));
  }
}

std::vector<std::string> DropbearServer::Prepare() {
  std::vector<std::string> words = {kDropbear, "-F",
                                    "-E",      "-s",
                                    "-P",      folder_ + "/pid",
                                    "-p",      "127.0.0.1:" + std::to_string(port_)};
  for (const std::string& type : options_.host_key_types) {
    words.push_back("-r");
    words.push_back(KeyPath(folder_, type));
  }
  words.insert(words.end(), options_.words.begin(), options_.words.end());
  return words;
}

}  // namespace hermes
