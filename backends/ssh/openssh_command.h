#pragma once

// The words that `ssh` is started with. ssh keeps the first value of every option, so ours come
// first. Pure but for reading the daemon's own environment and account.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/ssh/ssh_connection.h"

namespace hermes {

// The oldest that knows every option we give (8.7).
inline constexpr int kOldestOpenSsh = 807;

// 902 for "OpenSSH_9.2p1 ..."; 0: not OpenSSH.
int OpenSshVersion(std::string_view words);

// A key that a pinned host showed and that was not the pinned one, as its type ("ssh-ed25519").
using RefusedKeyTypes = std::vector<std::string>;

// A host that the way to the target leads over.
struct SshJump {
  SshSpec spec;  // its name, what ProxyJump says with it, and the target's policy
  SshResolved resolved = {};
  std::string user_known_hosts = {};  // as in SshCommand
};
// A longer way, or one that leads in a circle: BAD_FIELD.
inline constexpr size_t kMaxJumps = 8;

struct SshCommand {
  std::string program;
  SshTarget target;
  // The user's own files, for accept-new; as `ssh -G` shows them (see FilesOf).
  std::string user_known_hosts = {};
  // In the order in which they are offered; empty: as the configuration has it.
  std::string ciphers = {};
  RefusedKeyTypes refused_key_types = {};
  std::string config_file = {};     // not empty: in place of the target's
  std::vector<SshJump> jumps = {};  // from here on
  bool proxied = false;             // a ProxyCommand of the user's leads there
};

// The ciphers that a configuration accepts, AES-GCM before ChaCha20 where the CPU has AES: it moves
// twice the bytes for the same work, and ssh's own order is made for CPUs without. Empty: leave the
// order alone. None is added, none left out.
std::string FastestFirst(std::string_view accepted, bool cpu_has_aes);
// Whether the caller chose them; what the configuration chose is told by comparing.
bool GivesCiphers(const SshSpec& spec);
bool CpuHasAes();

// The files of a list as `ssh -G` shows it: without the quotes, though a path may have blanks. A
// word that does not begin like a path goes on with the one before.
std::vector<std::string> FilesOf(std::string_view list);
// The same list as words of ssh_config.
std::string QuotedFiles(std::string_view list);

// `ssh -G`: says what a connection would use.
std::vector<std::string> ResolveWords(const SshCommand& command);
// `ssh -M -N`: logs in and serves `control_path`.
std::vector<std::string> MasterWords(const SshCommand& command, const std::string& control_path);

// What ssh and the user's own configuration may need of the daemon's environment, and nothing else.
// No terminal, no dialog: ssh never asks anybody.
std::vector<std::string> SshEnvironment();

// ssh would start one of its own for every jump, with nothing of our options. This starts ours
// instead: a line for /bin/sh, which ssh has in its environment as kJumpsVariable. With the number
// of a jump, from 1 on, and "[host]:port" it becomes the ssh that leads from that jump to there.
inline constexpr std::string_view kJumpsVariable = "HERMESD_JUMPS";
std::string JumpScript(const SshCommand& command);
// What ssh is asked and started with for one of the jumps, as for a target.
SshCommand JumpCommand(const SshCommand& command, size_t index);

// With the account's home for a leading "~/".
std::string ExpandHome(const std::string& path);

// What the pin's check prints, then type and fingerprint of the key that the host showed.
inline constexpr std::string_view kPinMark = "hermesd-host-key";

}  // namespace hermes
