#include "sync/unpack/unpacker.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace hermes::sync::unpack {
namespace {

std::optional<Oddity> OddityOf(Member::Kind kind) {
  switch (kind) {
    case Member::Kind::kRegular:
    case Member::Kind::kHardLink:
      return std::nullopt;
    case Member::Kind::kSymlink:
      return Oddity::kSymlink;
    case Member::Kind::kDevice:
      return Oddity::kDevice;
    case Member::Kind::kDirectory:
      return Oddity::kDirectory;
    case Member::Kind::kFifo:
      return Oddity::kFifo;
    case Member::Kind::kSparse:
      return Oddity::kSparse;
    case Member::Kind::kUnknown:
      break;
  }
  return Oddity::kUnknownType;
}

}  // namespace

Unpacker::Unpacker(Request request)
    : request_(std::move(request)),
      seen_(request_.wanted.size(), Seen::kNot),
      sizes_(request_.wanted.size(), 0),
      reader_(*this, request_.max_total_bytes, request_.max_members) {
  index_.reserve(request_.wanted.size());
  for (size_t i = 0; i < request_.wanted.size(); ++i) {
    index_.emplace(request_.wanted[i].name, static_cast<uint32_t>(i));
  }
}

bool Unpacker::Feed(std::string_view bytes, std::string* out) {
  out_ = out;
  return reader_.Feed(bytes);
}

void Unpacker::Finish(std::string* out) { Encode(*out, End{reader_.Finish()}); }

bool Unpacker::OnMember(const Member& member) {
  taking_ = false;
  const uint32_t index = IndexOf(member.name);
  // Whoever cuts a long name short for the plain header leaves its beginning there. Another name
  // that was asked for, too, means that two readers would see two different files.
  if (member.header_name != member.name && !member.name.starts_with(member.header_name) &&
      IndexOf(member.header_name) != kNoIndex) {
    return MayGoOn(LieKind::kTwoNames, member.name);
  }
  if (index == kNoIndex) {
    if (!BelowDirectory(member.name)) return MayGoOn(LieKind::kUnrequested, member.name);
    Encode(*out_, Odd{kNoIndex, Oddity::kBelowDirectory, member.name});
    return true;
  }
  if (seen_[index] != Seen::kNot) return MayGoOn(LieKind::kRepeated, member.name);
  if (std::optional<Oddity> odd = OddityOf(member.kind)) {
    Skip(index, *odd, member.name);
    if (*odd == Oddity::kDirectory) seen_[index] = Seen::kDirectory;
  } else if (member.kind == Member::Kind::kHardLink) {
    TakeHardLink(index, member);
  } else {
    return Take(index, member);
  }
  return true;
}

void Unpacker::OnBody(std::string_view bytes) {
  if (!taking_) return;
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, kMaxDataBytes);
    Encode(*out_, Data{part});
    bytes.remove_prefix(part.size());
  }
}

void Unpacker::OnLie(LieKind what, std::string_view name) {
  Encode(*out_, Lie{what, std::string(name)});
}

uint32_t Unpacker::IndexOf(std::string_view name) const {
  auto found = index_.find(name);
  return found == index_.end() ? kNoIndex : found->second;
}

// A file that was replaced by a directory meanwhile brings all that is in there.
bool Unpacker::BelowDirectory(std::string_view name) const {
  for (size_t slash = name.find('/'); slash != name.npos; slash = name.find('/', slash + 1)) {
    const uint32_t index = IndexOf(name.substr(0, slash));
    if (index != kNoIndex && seen_[index] == Seen::kDirectory) return true;
  }
  return false;
}

uint64_t Unpacker::Room() const {
  return request_.max_total_bytes - std::min(total_, request_.max_total_bytes);
}

bool Unpacker::Take(uint32_t index, const Member& member) {
  if (member.size > request_.wanted[index].max_bytes) {
    Skip(index, Oddity::kTooBig, member.name);
    return true;
  }
  // The reader counts what the stream holds, and a copy is not in there.
  if (member.size > Room()) {
    Skip(index, Oddity::kTooBig, member.name);
    return MayGoOn(LieKind::kTooMuch, member.name);
  }
  if (member.special_bits) Encode(*out_, Odd{index, Oddity::kSpecialBits, member.name});
  Encode(*out_, File{index, member.size, member.executable});
  seen_[index] = Seen::kTaken;
  sizes_[index] = member.size;
  total_ += member.size;
  taking_ = true;
  return true;
}

// tar sends the content of files that are one inode only once.
void Unpacker::TakeHardLink(uint32_t index, const Member& member) {
  const uint32_t from = IndexOf(member.link);
  if (from == kNoIndex || seen_[from] != Seen::kTaken) {
    return Skip(index, Oddity::kHardLink, member.name);
  }
  if (sizes_[from] > std::min(request_.wanted[index].max_bytes, Room())) {
    return Skip(index, Oddity::kTooBig, member.name);
  }
  Encode(*out_, Copy{index, from});
  seen_[index] = Seen::kTaken;
  sizes_[index] = sizes_[from];
  total_ += sizes_[from];
}

void Unpacker::Skip(uint32_t index, Oddity why, std::string_view name) {
  seen_[index] = Seen::kSkipped;
  Encode(*out_, Odd{index, why, std::string(name)});
}

bool Unpacker::MayGoOn(LieKind what, std::string_view name) {
  OnLie(what, name);
  return request_.salvage;
}

}  // namespace hermes::sync::unpack
