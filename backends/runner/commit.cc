#include "backends/runner/commit.h"

#include <sys/stat.h>

#include <utility>

#include "backends/runner/sys.h"

namespace hermes::runner {

Committed Commit(SessionTable& sessions, Session& session, shell::Kind kind,
                 const Capture& capture) {
  if (capture.path.empty()) return {.done = false, .reason = capture.why_not};
  struct stat facts;
  if (lstat(capture.path.c_str(), &facts) != 0)
    return {.done = false, .reason = "no capture: exec or own EXIT trap"};
  if (static_cast<uint64_t>(facts.st_size) > shell::kMaxStateBytes)
    return {.done = false, .reason = "too large"};
  // A script's umask may have taken our own right to read it.
  if (S_ISREG(facts.st_mode) && (facts.st_mode & S_IRUSR) == 0) chmod(capture.path.c_str(), 0600);
  auto text = ReadSmallFile(capture.path, shell::kMaxStateBytes);
  if (!text) return {.done = false, .reason = "capture is not readable"};
  std::string why;
  auto after = shell::ParseCapture(kind, *text, capture.nonce, &why);
  if (!after) return {.done = false, .reason = why};
  Shared<shell::State> current = sessions.Current(session);
  if (!current) return {.done = false, .reason = "the stored state is lost"};
  shell::State merged = *current;
  if (!shell::Merge(*capture.base, *after, capture.not_kept, capture.commit_cwd, &merged))
    return {.done = true, .reason = ""};
  if (!sessions.Commit(session, std::move(merged)))
    return {.done = false, .reason = "state cannot be stored"};
  return {.done = true, .reason = ""};
}

}  // namespace hermes::runner
