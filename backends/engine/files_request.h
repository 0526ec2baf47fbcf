#pragma once

// What `hermes-runner files` is asked: one request on its stdin, answered on stdout in the words of
// sync/far_answer.h. Integers and texts are those of frames.h. Pure.
//
//   u32 length | u8 verb | payload          length counts verb and payload
//   payload   str mark, str root, str only (empty: all), strlist ignore, u64 max_file_bytes
//   a look    + str expected (64 hex digits, or empty)
//   an apply  + str epoch, str known epoch (empty: any), u8 secret, u32 count, and for each change
//               str name, str expected, u8 wanted, and if wanted: u64 size, u8 executable,
//               u64 time of its last change in seconds,
//               and if wanted is 2: u32 index of an earlier wanted change with the same bytes
//             expected: 64 hex digits and x (executable) or -; empty: there is none
//             Behind the request, for each change whose wanted is 1, in order: exactly `size`
//             bytes, u8 good (0: it is not to be placed), 32 bytes: SHA-256 of those bytes.
//   a fetch   + strlist names

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sync/remote_tree.h"

namespace hermes {

enum class FilesVerb : uint8_t { kLook = 1, kApply = 2, kFetch = 3 };

// A longer request is refused on either side: SYNC_FAILED.
inline constexpr size_t kMaxFilesRequest = 64 << 20;

std::string LookRequest(std::string_view mark, const sync::RemoteRoot& root,
                        const std::optional<sync::Digest>& expected);
std::string ApplyRequest(std::string_view mark, const sync::RemoteApply& apply);
std::string FetchRequest(std::string_view mark, const sync::RemoteRoot& root,
                         const std::vector<sync::RelPath>& names);

// For each change, the first one with the same bytes if that is another one: they go out once.
std::vector<std::optional<uint32_t>> SharedBytes(const std::vector<sync::RemoteChange>& changes);

// What follows a file's bytes.
std::string FileTrailer(bool good, const sync::Digest& digest);

}  // namespace hermes
