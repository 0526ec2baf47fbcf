#pragma once

// The file service of the runner: what sync asks of the far end of a mount, one request from stdin,
// one answer to stdout. Its own process or, as a command of a session, the runner's child. Blocking
// and with little memory: files are hashed as they are read and written as they come.
//
// Request, as frames::Writer writes it:
//   u32 length | u8 Verb | str mark | str root | str only | strlist ignore | u64 max_file_bytes
//   look:   str expected digest (hex, may be empty)
//   apply:  str epoch | str known epoch (empty: any) | u8 secret | u32 count | per change:
//             str name | str expected (ContentText, empty: no file) | u8 wanted
//             (wanted:) u64 size | u8 executable | u64 time of its last change in seconds
//             (wanted is 2:) u32 index of an earlier wanted change with the same bytes
//           behind the request, for each change whose `wanted` is 1, in order: `size` bytes,
//           u8 good (0: do not place), 32 bytes SHA-256 of what was sent
//   fetch:  strlist names
// The answer is sync/far_answer.h's, of level A. A fetch is a tar of ustar and GNU long names.
//
// A request that is cut short, or whose bytes are not those of their digest, places nothing.

#include <stdint.h>

namespace hermes::runner {

enum class FilesVerb : uint8_t { kLook = 1, kApply = 2, kFetch = 3 };

// Ends of the program. A command that follows an apply starts after the first only: then each file
// is what was wanted, or what somebody over here made of it (a conflict).
inline constexpr int kFilesDone = 0;
inline constexpr int kFilesTrouble = 1;     // it was told by an `x` line; or the asker is gone
inline constexpr int kFilesSomeFailed = 2;  // some changes could not be placed

int FilesMain();

}  // namespace hermes::runner
