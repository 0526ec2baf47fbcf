#include "sync/far_answer.h"

#include <algorithm>
#include <utility>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr size_t kMaxEpoch = 64;
constexpr size_t kShown = 300;  // bytes of a far text in a message

// At most kShown bytes of it; what is not printable ASCII becomes '?'.
std::string Printable(std::string_view text) {
  std::string out(text.substr(0, kShown));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return out;
}

bool IsHex(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == text.npos;
}

// Nothing but digits, and no more than a uint64_t holds.
std::optional<uint64_t> Number(std::string_view text) {
  uint64_t value = 0;
  for (const char c : text) {
    const auto digit = static_cast<uint64_t>(c - '0');
    if (c < '0' || c > '9' || value > (UINT64_MAX - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  if (text.empty()) return std::nullopt;
  return value;
}

std::optional<Oddity> OddityOf(std::string_view letter) {
  if (letter == "n") return Oddity::kName;
  if (letter == "l") return Oddity::kLink;
  if (letter == "s") return Oddity::kSpecial;
  if (letter == "u") return Oddity::kUnreadable;
  if (letter == "b") return Oddity::kTooBig;
  if (letter == "x") return Oddity::kOtherFileSystem;
  return std::nullopt;
}

// Cuts the text up to `separator`, which is dropped; all of it if there is none.
std::string_view CutAt(std::string_view* rest, char separator) {
  const size_t at = rest->find(separator);
  const std::string_view part = rest->substr(0, at);
  rest->remove_prefix(at == rest->npos ? rest->size() : at + 1);
  return part;
}

absl::Status AddSizes(std::string_view sizes, FileMap* files) {
  // The text's order: executable files first.
  for (const bool executable : {true, false}) {
    for (auto& [path, content] : *files) {
      if (content.executable != executable) continue;
      const std::optional<uint64_t> size = Number(CutAt(&sizes, '\n'));
      if (!size) return Error(Reason::k_SYNC_FAILED, "the far side's list of sizes is damaged");
      content.size = *size;
    }
  }
  if (!sizes.empty()) return Error(Reason::k_SYNC_FAILED, "the far side lists too many sizes");
  return absl::OkStatus();
}

}  // namespace

absl::Status FarAnswer::Broken(std::string_view what) {
  state_ = State::kBroken;
  return Error(Reason::k_SYNC_FAILED, "the far side's answer is damaged: " + std::string(what));
}

absl::Status FarAnswer::Feed(std::string_view bytes, std::string_view* stream) {
  if (stream != nullptr) *stream = {};
  if (state_ == State::kBroken) return Broken("it was given up before");
  if (state_ == State::kDone) return absl::OkStatus();
  if (state_ == State::kStream) {
    if (stream != nullptr) *stream = bytes;
    return absl::OkStatus();
  }
  const size_t known = rest_.size();
  rest_.append(bytes);
  for (bool progress = true; progress;) {
    progress = false;
    if (absl::Status status = Advance(&progress); !status.ok()) {
      state_ = State::kBroken;
      return status;
    }
  }
  if (state_ == State::kStream) {
    // The head ended within the new bytes, or it would have been read before.
    if (stream != nullptr) *stream = bytes.substr(at_ - std::min(known, at_));
    rest_.clear();
    at_ = 0;
    return absl::OkStatus();
  }
  rest_.erase(0, at_);
  at_ = 0;
  return absl::OkStatus();
}

// One step of reading; `*progress` says whether another may follow.
absl::Status FarAnswer::Advance(bool* progress) {
  switch (state_) {
    case State::kNoise:
      return FindHead(progress);
    case State::kLines: {
      const size_t end = rest_.find('\n', at_);
      const size_t length = (end == rest_.npos ? rest_.size() : end) - at_;
      if (length > kMaxFarLine) return Broken("a line is too long");
      if (end == rest_.npos) return absl::OkStatus();
      *progress = true;
      const std::string_view line = std::string_view(rest_).substr(at_, length);
      at_ = end + 1;
      return TakeLine(line);
    }
    case State::kBlock:
      return TakeBlock(progress);
    case State::kNames:
      return TakeName(progress);
    default:
      return absl::OkStatus();
  }
}

absl::Status FarAnswer::FindHead(bool* progress) {
  const size_t at = rest_.find(question_.mark, at_);
  const bool found = at != rest_.npos;
  if (std::min(at, rest_.size()) > kMaxFarNoise) return Broken("there is only noise");
  const size_t end = found ? rest_.find('\n', at) : rest_.npos;
  if (found && std::min(end, rest_.size()) - at > kMaxFarLine)
    return Broken("its head is too long");
  if (end == rest_.npos) return absl::OkStatus();
  *progress = true;
  at_ = end + 1;
  const size_t begin = at + question_.mark.size();
  return TakeHead(std::string_view(rest_).substr(begin, end - begin));
}

absl::Status FarAnswer::TakeHead(std::string_view line) {
  if (line.starts_with(" x ")) return TakeTrouble(line.substr(3));
  if (!line.starts_with(" h ")) return Broken("it has no head");
  line.remove_prefix(3);
  const std::string_view level = CutAt(&line, ' ');
  const std::string_view exists = CutAt(&line, ' ');
  if (level != "A" && level != "B") return Broken("it knows no such level");
  if (exists != "0" && exists != "1") return Broken("its head is none");
  if (line != "-" && (!IsHex(line) || line.size() > kMaxEpoch)) return Broken("its token is none");
  look_.level = level == "A" ? ToolLevel::kRunner : ToolLevel::kShell;
  look_.exists = exists == "1";
  if (line != "-") look_.epoch = line;
  placed_.resize(question_.changes);
  state_ = question_.verb == FarVerb::kFetch ? State::kStream : State::kLines;
  return absl::OkStatus();
}

absl::Status FarAnswer::TakeLine(std::string_view line) {
  if (++lines_ > kMaxFarLines + question_.changes) return Broken("it has no end");
  if (line.starts_with(question_.mark)) return TakeMarked(line.substr(question_.mark.size()));
  const bool look = question_.verb == FarVerb::kLook;
  if (!look && line == "P") {
    others_placed_ = true;
    return absl::OkStatus();
  }
  if (line.size() < 3 || line[1] != ' ') return Broken("a line that is none");
  const char kind = line[0];
  const std::string_view rest = line.substr(2);
  if (kind == 't') return BeginBlock(kind, rest);
  if (look && kind == 'd') return TakeDigest(rest);
  if (look && (kind == 'm' || kind == 's')) return BeginBlock(kind, rest);
  if (look && kind == 'o') return BeginNames(rest);
  if (!look && (kind == 'p' || kind == 'c' || kind == 'f')) return TakePlace(kind, rest);
  return Broken("a line that is none");
}

absl::Status FarAnswer::TakeMarked(std::string_view rest) {
  if (rest == " e") return TakeEnd();
  if (rest.starts_with(" x ")) return TakeTrouble(rest.substr(3));
  return Broken("a marked line that is none");
}

absl::Status FarAnswer::TakeTrouble(std::string_view rest) {
  const std::string_view word = CutAt(&rest, ' ');
  std::string said = Printable(rest);
  if (!text_.empty()) said += (said.empty() ? "" : ": ") + Printable(text_);
  if (word == "notools")
    return Error(Reason::k_CAPABILITY_MISSING, "the far side has no " + said + " for sync");
  if (word == "noroot")
    return Error(Reason::k_SYNC_FAILED, "the far side cannot use the mount's root: " + said);
  if (word == "nospace") return Error(Reason::k_DISK_FULL, "the far side's disk is full: " + said);
  if (word == "failed") return Error(Reason::k_SYNC_FAILED, "the far side failed: " + said);
  return Broken("a trouble that is none");
}

absl::Status FarAnswer::TakeDigest(std::string_view rest) {
  const std::optional<Digest> digest = ParseDigest(rest);
  if (!digest || has_digest_) return Broken("a digest that is none");
  look_.digest = *digest;
  has_digest_ = true;
  return absl::OkStatus();
}

absl::Status FarAnswer::BeginBlock(char kind, std::string_view size) {
  const std::optional<uint64_t> bytes = Number(size);
  // The separator is a line, too.
  const uint64_t list = (uint64_t{question_.max_files} + 1) * kMaxFarBytesPerFile;
  const uint64_t most = kind == 't' ? kMaxFarText : std::min(list, kMaxFarListBytes);
  if (!bytes || *bytes > most) return Broken("it is too long");
  if ((kind == 'm' && manifest_) || (kind == 's' && sizes_)) return Broken("a list comes twice");
  if (kind == 'm') manifest_.emplace();
  if (kind == 's') sizes_.emplace();
  block_ = kind;
  left_ = *bytes;
  state_ = State::kBlock;
  return absl::OkStatus();
}

absl::Status FarAnswer::TakeBlock(bool* progress) {
  const std::string_view part = std::string_view(rest_).substr(at_, left_);
  at_ += part.size();
  left_ -= part.size();
  if (block_ == 'm') manifest_->append(part);
  if (block_ == 's') sizes_->append(part);
  if (block_ == 't')
    text_.append(part.substr(0, kMaxFarText - std::min(kMaxFarText, text_.size())));
  if (left_ > 0) return absl::OkStatus();
  *progress = true;
  state_ = State::kLines;
  return absl::OkStatus();
}

absl::Status FarAnswer::BeginNames(std::string_view letter) {
  const std::optional<Oddity> oddity = OddityOf(letter);
  if (!oddity) return Broken("an oddity that is none");
  oddity_ = *oddity;
  state_ = State::kNames;
  return absl::OkStatus();
}

absl::Status FarAnswer::TakeName(bool* progress) {
  const size_t end = rest_.find('\0', at_);
  const size_t length = (end == rest_.npos ? rest_.size() : end) - at_;
  if (length > kMaxFarBytesPerFile) return Broken("a name is too long");
  if (end == rest_.npos) return absl::OkStatus();
  *progress = true;
  std::string_view name = std::string_view(rest_).substr(at_, length);
  at_ = end + 1;
  if (name.empty()) {
    state_ = State::kLines;
    return absl::OkStatus();
  }
  if (name.starts_with("./")) name.remove_prefix(2);
  if (CheckPath(name) == PathFault::kEscapes) return Broken("a name that no tree has");
  odd_bytes_ += name.size();
  if (odd_bytes_ > kMaxFarOddBytes || look_.manifest.oddities.size() >= kMaxFarOddities)
    return Broken("there are too many oddities");
  look_.manifest.oddities.try_emplace(std::string(name), oddity_);
  return absl::OkStatus();
}

absl::Status FarAnswer::TakePlace(char kind, std::string_view rest) {
  const std::optional<uint64_t> index = Number(rest);
  if (!index || *index >= placed_.size()) return Broken("a change that was not asked for");
  if (placed_[*index]) return Broken("a change comes twice");
  placed_[*index] = static_cast<Placed>(kind);
  return absl::OkStatus();
}

absl::Status FarAnswer::TakeEnd() {
  if (manifest_ && !has_digest_) return Broken("it has no digest");
  for (std::optional<Placed>& placed : placed_) {
    if (!placed && !others_placed_) return Broken("it leaves out a change");
    if (!placed) placed = Placed::kDone;
  }
  state_ = State::kDone;
  return absl::OkStatus();
}

absl::Status FarAnswer::Finish() const {
  if (state_ == State::kDone || state_ == State::kStream) return absl::OkStatus();
  std::string said;
  if (state_ == State::kNoise && !rest_.empty()) said = ": " + Printable(rest_);
  return Error(Reason::k_BACKEND_UNREACHABLE, "the far side's answer was cut short" + said);
}

absl::StatusOr<FileMap> FarAnswer::Files() const {
  ASSIGN_OR_RETURN(FileMap files, ParseManifest(*manifest_, question_.max_files));
  if (DigestOf(*manifest_) != look_.digest)
    return Error(Reason::k_SYNC_FAILED, "the far side's list of files is not that of its digest");
  if (sizes_) RETURN_IF_ERROR(AddSizes(*sizes_, &files));
  return files;
}

absl::StatusOr<RemoteLook> FarAnswer::TakeLook(std::optional<Digest> expected) {
  if (!has_digest_) look_.digest = expected.value_or(Digest{});
  look_.same = expected && *expected == look_.digest;
  if (manifest_) {
    ASSIGN_OR_RETURN(look_.manifest.files, Files());
  } else if (!look_.same) {
    return Error(Reason::k_SYNC_FAILED, "the far side keeps its list of files back");
  }
  return std::move(look_);
}

RemoteApplied FarAnswer::TakeApplied() {
  RemoteApplied applied{.epoch = std::move(look_.epoch), .placed = {}};
  for (const std::optional<Placed>& placed : placed_) applied.placed.push_back(*placed);
  return applied;
}

}  // namespace hermes::sync
