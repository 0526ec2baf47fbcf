#pragma once

// Manifest: what one side of a mount holds, by name. Its canonical text and the digest of that are
// the same on the host and on every kind of far side, so two equal trees agree by 32 bytes. Pure.

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "sync/content.h"
#include "sync/name_rules.h"
#include "sync/rel_path.h"

namespace hermes::sync {

// Why something in a tree does not travel. Its name is unknown ground: neither there nor gone.
enum class Oddity {
  kName,             // a newline, a backslash, or no RelPath: not every far side can spell it
  kLink,             // a symbolic link that the mount's link policy leaves alone
  kSpecial,          // a fifo, socket or device
  kUnreadable,       // a file or directory that this account may not read
  kTooBig,           // a file above the mount's max_file_bytes
  kOtherFileSystem,  // a mount point below the mount's root
  kSecret,           // withheld for its name, see SecretPatterns; no far end says so
};

std::string_view OddityName(Oddity oddity);  // "odd name", "link", ...

using FileMap = std::map<RelPath, Content>;

struct Manifest {
  FileMap files;
  std::map<std::string, Oddity> oddities;  // names as found, any bytes; a directory stands for all
                                           // that is below it
  bool operator==(const Manifest&) const = default;
};

// For each executable file, then for each other file, sorted bytewise by name within its group, a
// line "<64 hex>  <name>"; a line "-" between the groups. CHECKs that all names are plain.
std::string CanonicalText(const FileMap& files);
Digest ManifestDigest(const FileMap& files);

// Exactly what CanonicalText writes, with sizes of 0; the text may come from anybody. SYNC_FAILED:
// it is malformed, out of order, names a file twice or below another file, or has more than
// `max_files` lines. PATH_ESCAPES_ROOT: a name that no honest tree has.
absl::StatusOr<FileMap> ParseManifest(std::string_view text, size_t max_files);

// Whether one of the names is the other or a directory above it, part by part.
bool Related(std::string_view a, std::string_view b);

}  // namespace hermes::sync
