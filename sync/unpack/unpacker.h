#pragma once

// Unpacker: holds what a TarReader finds against the wanted list and writes records. A wanted file
// becomes File and Data, or Copy; what an honest tree may hold besides becomes Odd; the first lie
// ends it, in salvage mode only a lie about the stream's structure does. Pure: the caller moves the
// bytes.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sync/unpack/tar_reader.h"
#include "sync/unpack/wire.h"

namespace hermes::sync::unpack {

class Unpacker : private TarReader::Handler {
 public:
  explicit Unpacker(Request request);
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;

  // Appends the records of what `bytes` complete. False: it is over, call Finish.
  bool Feed(std::string_view bytes, std::string* out);
  // Appends the End.
  void Finish(std::string* out);

 private:
  enum class Seen : uint8_t { kNot, kTaken, kDirectory, kSkipped };

  bool OnMember(const Member& member) override;
  void OnBody(std::string_view bytes) override;
  void OnLie(LieKind what, std::string_view name) override;

  uint32_t IndexOf(std::string_view name) const;
  bool BelowDirectory(std::string_view name) const;
  uint64_t Room() const;  // what may still be taken, of all files together
  // Of a member whose name was asked for, by its index. False: read no further.
  bool Take(uint32_t index, const Member& member);
  void TakeHardLink(uint32_t index, const Member& member);
  void Skip(uint32_t index, Oddity why, std::string_view name);
  bool MayGoOn(LieKind what, std::string_view name);

  const Request request_;
  std::unordered_map<std::string_view, uint32_t> index_;  // into request_
  std::vector<Seen> seen_;
  std::vector<uint64_t> sizes_;  // of what was taken
  TarReader reader_;
  uint64_t total_ = 0;  // taken, copies too
  bool taking_ = false;
  std::string* out_ = nullptr;  // during Feed
};

}  // namespace hermes::sync::unpack
