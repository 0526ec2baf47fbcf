#include "sync/rel_path.h"

#include <algorithm>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

// The next part of `*rest`, which loses it and the slash behind it. A trailing slash leaves an
// empty last part, so the caller sees it.
std::string_view NextPart(std::string_view* rest, bool* last) {
  size_t slash = rest->find('/');
  *last = slash == std::string_view::npos;
  std::string_view part = rest->substr(0, slash);
  if (!*last) rest->remove_prefix(slash + 1);
  return part;
}

}  // namespace

absl::StatusOr<RelPath> RelPath::Parse(std::string_view text) {
  switch (CheckPath(text)) {
    case PathFault::kNone:
      return RelPath(std::string(text));
    case PathFault::kEscapes:
      return Error(Reason::k_PATH_ESCAPES_ROOT,
                   "a name inside a mount is relative and has no empty, \".\" or \"..\" part");
    case PathFault::kTooLong:
      break;
  }
  return BadField("path",
                  "a name inside a mount has at most 255 bytes in each of at most 64 parts, "
                  "and 4096 bytes in all");
}

std::vector<std::string_view> RelPath::parts() const {
  std::vector<std::string_view> parts;
  std::string_view rest = text_;
  for (bool last = false; !last;) parts.push_back(NextPart(&rest, &last));
  return parts;
}

std::string_view RelPath::leaf() const {
  std::string_view text = text_;
  size_t slash = text.rfind('/');
  return slash == std::string_view::npos ? text : text.substr(slash + 1);
}

std::string_view RelPath::parent() const {
  std::string_view text = text_;
  size_t slash = text.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : text.substr(0, slash);
}

bool RelPath::Within(const RelPath& directory) const {
  return text_.starts_with(directory.text_) &&
         (text_.size() == directory.text_.size() || text_[directory.text_.size()] == '/');
}

}  // namespace hermes::sync
