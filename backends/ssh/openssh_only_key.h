#pragma once

// "This key only": ssh adds every IdentityFile of ssh_config to the one that it is told, and offers
// keys of an agent among them first. Where the configuration names others, ssh gets one without
// them. Pure.

#include <optional>
#include <string>
#include <string_view>

#include "backends/ssh_spec.h"

namespace hermes {

// An ssh_config that says for the host what `ssh -G` resolved to (its `output`), less all keys.
// nullopt: there is no key_file, or nothing but it would be offered.
std::optional<std::string> OnlyKeyConfig(const SshSpec& spec, std::string_view output);

}  // namespace hermes
