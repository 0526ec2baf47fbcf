#pragma once

// SshHandle: what a stored session goes back by. Pure text, in a store of ours:
//   ssh:<key>:<route>:<user@host:port>
// Earlier versions stored "ssh:<key>".

#include <optional>
#include <string>
#include <string_view>

#include "backends/ssh/ssh_connection.h"

namespace hermes {

struct SshHandle {
  // The sharing key of the session's first connection. It names the runner's folder for as long as
  // the session lives, whatever later connections are made with.
  std::string key;
  std::optional<SshPlace> place;  // nullopt: nobody wrote down where that was

  std::string Text() const;       // `place` is there
  std::string PlaceKey() const;   // one runner, one key: the same text in every version
  std::string Directory() const;  // the runner's, of those of one daemon
};

std::optional<SshHandle> ParseSshHandle(std::string_view text);

}  // namespace hermes
