#include "sync/manifest.h"

#include <optional>
#include <utility>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr size_t kHexBytes = 64;
constexpr std::string_view kGap = "  ";
constexpr std::string_view kSeparator = "-";

void AppendGroup(const FileMap& files, bool executable, std::string* text) {
  for (const auto& [path, content] : files) {
    if (content.executable != executable) continue;
    CHECK(HasPlainName(path.str()));
    text->append(Hex(content.digest)).append(kGap).append(path.str()).push_back('\n');
  }
}

absl::Status Malformed(std::string_view what) {
  return Error(Reason::k_SYNC_FAILED, "the list of files is damaged: " + std::string(what));
}

// Reads the lines of one text; keeps what they said.
class Parser {
 public:
  absl::Status Line(std::string_view line) {
    if (line == kSeparator) {
      if (!executable_) return Malformed("a second separator");
      executable_ = false;
      previous_.reset();
      return absl::OkStatus();
    }
    if (line.size() <= kHexBytes + kGap.size() || line.substr(kHexBytes, kGap.size()) != kGap)
      return Malformed("a line that is no digest and name");
    const std::optional<Digest> digest = ParseDigest(line.substr(0, kHexBytes));
    if (!digest.has_value()) return Malformed("a bad digest");
    const std::string_view name = line.substr(kHexBytes + kGap.size());
    if (!HasPlainName(name)) return Malformed("a name that needs quoting");
    return Add(name, Content{*digest, 0, executable_});
  }

  absl::StatusOr<FileMap> Finish() {
    if (executable_) return Malformed("no separator");
    const std::string* above = nullptr;
    // Bytewise order puts "a-b" between "a" and "a/b": so each directory above is looked up.
    for (const auto& [path, content] : files_) {
      for (size_t slash = path.str().rfind('/'); slash != std::string::npos && slash > 0;
           slash = path.str().rfind('/', slash - 1)) {
        if (files_.contains(*RelPath::Parse(path.str().substr(0, slash)))) above = &path.str();
      }
    }
    if (above != nullptr) return Malformed("a file below another file");
    return std::move(files_);
  }

 private:
  absl::Status Add(std::string_view name, const Content& content) {
    ASSIGN_OR_RETURN(RelPath path, RelPath::Parse(name));
    if (previous_.has_value() && path <= *previous_) return Malformed("names out of order");
    previous_ = path;
    if (!files_.emplace(std::move(path), content).second) return Malformed("a name given twice");
    return absl::OkStatus();
  }

  FileMap files_;
  std::optional<RelPath> previous_;
  bool executable_ = true;
};

}  // namespace

std::string_view OddityName(Oddity oddity) {
  switch (oddity) {
    case Oddity::kName:
      return "odd name";
    case Oddity::kLink:
      return "link";
    case Oddity::kSpecial:
      return "fifo, socket or device";
    case Oddity::kUnreadable:
      return "unreadable";
    case Oddity::kTooBig:
      return "too big";
    case Oddity::kOtherFileSystem:
      return "other file system";
    case Oddity::kSecret:
      return "named like a secret (the mount has no secrets=include)";
  }
  return "";
}

std::string CanonicalText(const FileMap& files) {
  std::string text;
  AppendGroup(files, true, &text);
  text.append(kSeparator).push_back('\n');
  AppendGroup(files, false, &text);
  return text;
}

Digest ManifestDigest(const FileMap& files) { return DigestOf(CanonicalText(files)); }

absl::StatusOr<FileMap> ParseManifest(std::string_view text, size_t max_files) {
  Parser parser;
  // The separator is one line more.
  for (size_t lines = 0; !text.empty(); ++lines) {
    if (lines > max_files) return Malformed("more files than the mount may have");
    const size_t end = text.find('\n');
    if (end == text.npos) return Malformed("an unfinished line");
    RETURN_IF_ERROR(parser.Line(text.substr(0, end)));
    text.remove_prefix(end + 1);
  }
  return parser.Finish();
}

bool Related(std::string_view a, std::string_view b) {
  if (a.size() > b.size()) std::swap(a, b);
  return b.starts_with(a) && (a.size() == b.size() || b[a.size()] == '/');
}

}  // namespace hermes::sync
