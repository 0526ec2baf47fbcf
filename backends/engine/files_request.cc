#include "backends/engine/files_request.h"

#include <map>

#include "backends/engine/frames.h"

namespace hermes {
namespace {

constexpr size_t kLengthBytes = 4;
constexpr uint8_t kSharedBytes = 2;  // of "wanted"

// One request; its length is known at the end.
class Request {
 public:
  Request(FilesVerb verb, std::string_view mark, const sync::RemoteRoot& root) {
    to.U32(0);
    to.U8(static_cast<uint8_t>(verb));
    to.Str(mark);
    to.Str(root.path);
    to.Str(root.only ? root.only->str() : "");
    to.U32(static_cast<uint32_t>(root.ignore.size()));
    for (const std::string& pattern : root.ignore) to.Str(pattern);
    to.U64(root.max_file_bytes);
  }
  std::string End() {
    const size_t length = bytes_.size() - kLengthBytes;
    for (size_t i = 0; i < kLengthBytes; ++i) bytes_[i] = static_cast<char>(length >> (8 * i));
    return std::move(bytes_);
  }

 private:
  std::string bytes_;

 public:
  frames::Writer to{bytes_};
};

uint64_t SecondsOf(const sync::RemoteChange& change) {
  return static_cast<uint64_t>(change.mtime_ns) / 1'000'000'000;
}

std::string Word(const sync::MaybeContent& content) {
  if (!content) return "";
  return sync::Hex(content->digest) + (content->executable ? 'x' : '-');
}

}  // namespace

std::string LookRequest(std::string_view mark, const sync::RemoteRoot& root,
                        const std::optional<sync::Digest>& expected) {
  Request request(FilesVerb::kLook, mark, root);
  request.to.Str(expected ? sync::Hex(*expected) : "");
  return request.End();
}

std::string ApplyRequest(std::string_view mark, const sync::RemoteApply& apply) {
  Request request(FilesVerb::kApply, mark, apply.root);
  request.to.Str(apply.epoch);
  request.to.Str(apply.known_epoch);
  request.to.U8(apply.secret ? 1 : 0);
  request.to.U32(static_cast<uint32_t>(apply.changes.size()));
  const std::vector<std::optional<uint32_t>> shared = SharedBytes(apply.changes);
  for (size_t i = 0; i < apply.changes.size(); ++i) {
    const sync::RemoteChange& change = apply.changes[i];
    request.to.Str(change.path.str());
    request.to.Str(Word(change.expected));
    request.to.U8(!change.wanted ? 0 : shared[i] ? kSharedBytes : 1);
    if (!change.wanted) continue;
    request.to.U64(change.wanted->size);
    request.to.U8(change.wanted->executable ? 1 : 0);
    request.to.U64(SecondsOf(change));
    if (shared[i]) request.to.U32(*shared[i]);
  }
  return request.End();
}

std::vector<std::optional<uint32_t>> SharedBytes(const std::vector<sync::RemoteChange>& changes) {
  std::vector<std::optional<uint32_t>> shared(changes.size());
  std::map<sync::Digest, uint32_t> first;
  for (uint32_t i = 0; i < changes.size(); ++i) {
    const sync::MaybeContent& wanted = changes[i].wanted;
    if (!wanted) continue;
    const auto [known, fresh] = first.emplace(wanted->digest, i);
    if (!fresh) shared[i] = known->second;
  }
  return shared;
}

std::string FetchRequest(std::string_view mark, const sync::RemoteRoot& root,
                         const std::vector<sync::RelPath>& names) {
  Request request(FilesVerb::kFetch, mark, root);
  request.to.U32(static_cast<uint32_t>(names.size()));
  for (const sync::RelPath& name : names) request.to.Str(name.str());
  return request.End();
}

std::string FileTrailer(bool good, const sync::Digest& digest) {
  std::string bytes;
  frames::Writer to(bytes);
  to.U8(good ? 1 : 0);
  to.Raw(std::string_view(reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()));
  return bytes;
}

}  // namespace hermes
