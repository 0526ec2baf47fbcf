// What a far end's shell wrote, and what a store kept: parsed as hostile, merged, stored, read
// back. The first byte chooses the shell; "N" is the nonce.

#include <cstddef>
#include <cstdint>
#include <string>

#include "backends/engine/shell_state.h"
#include "daemon/runtime/check.h"

namespace hermes::shell {
namespace {

void CheckParsed(const State& state) {
  CHECK(state.cwd.starts_with('/'));
  for (const auto& [name, value] : state.env) {
    CHECK(IsIdentifier(name));
    CHECK(value.find('\0') == std::string::npos);
    CHECK(name.size() + 1 + value.size() <= kMaxVariableBytes);
  }
  for (const auto& [name, function] : state.functions)
    CHECK(!name.empty() && !IsReservedFunction(name) && !function.body.empty());
  CHECK(Decode(Encode(state)) == state);

  State session;
  bool changed = Merge(State{}, state, {}, true, &session);
  CHECK(session == state);
  CHECK(changed == !(state == State{}));
  CHECK(!Merge(state, state, {}, true, &session));
  State emptied;
  emptied.cwd = state.cwd;
  Merge(state, emptied, {}, true, &session);
  CHECK(session == emptied);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (std::optional<State> stored = Decode(text)) CHECK(Encode(*stored) == text);
  if (text.empty()) return 0;
  Kind kind = text[0] == 's' ? Kind::kSh : Kind::kBash;
  std::string why;
  std::optional<State> parsed = ParseCapture(kind, text.substr(1), "N", &why);
  CHECK(parsed.has_value() == why.empty());
  if (parsed) CheckParsed(*parsed);
  return 0;
}

}  // namespace hermes::shell
