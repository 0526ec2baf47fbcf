#include "backends/runner/files.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include <utility>

#include "backends/engine/frames.h"
#include "backends/runner/files_apply.h"
#include "backends/runner/files_fetch.h"
#include "backends/runner/files_io.h"
#include "backends/runner/files_look.h"

namespace hermes::runner {
namespace {

using frames::Reader;

constexpr uint64_t kMaxRequestBytes = 64 << 20;  // without the files behind it
constexpr size_t kMaxMark = 64;
constexpr std::string_view kNoMark = "@0000000000000000";  // who asks cannot be told
constexpr uint8_t kSharedBytes = 2;                        // of "wanted": no bytes of its own
constexpr size_t kChangeBytes = 9;                         // of the shortest change

struct Request {
  FilesVerb verb{};
  std::string_view mark;
  std::string_view root;
  Scope scope;
};

bool IsName(std::string_view name) { return sync::CheckPath(name) == sync::PathFault::kNone; }

bool ReadCommon(Reader& reader, Request* request) {
  request->verb = static_cast<FilesVerb>(reader.U8());
  request->mark = reader.Str();
  request->root = reader.Str();
  request->scope.only = reader.Str();
  request->scope.ignore = sync::NameFilter(reader.StrList());
  request->scope.max_file_bytes = reader.U64();
  std::string_view only = request->scope.only;
  return reader.ok() && !request->mark.empty() && request->mark.size() <= kMaxMark &&
         request->mark.find('\n') == request->mark.npos && !request->root.empty() &&
         request->root.find('\0') == request->root.npos && (only.empty() || IsName(only));
}

bool ReadChanges(Reader& reader, const Scope& scope, size_t request_bytes, Apply* apply) {
  apply->epoch = reader.Str();
  apply->known_epoch = reader.Str();
  apply->secret = reader.U8() != 0;
  uint32_t count = reader.U32();
  if (!reader.ok() || (!apply->epoch.empty() && !IsEpoch(apply->epoch))) return false;
  if (count > request_bytes / kChangeBytes) return false;  // no allocation on a lie
  for (uint32_t i = 0; i < count; ++i) {
    Change change;
    change.name = reader.Str();
    change.expected = reader.Str();
    uint8_t wanted = reader.U8();
    change.wanted = wanted != 0;
    if (change.wanted) {
      change.size = reader.U64();
      change.executable = reader.U8() != 0;
      change.time_s = reader.U64();
    }
    if (wanted == kSharedBytes) {
      change.same_as = reader.U32();
      if (change.same_as >= i || !apply->changes[change.same_as].wanted) return false;
    }
    if (!reader.ok() || !IsName(change.name) || scope.ignore.Ignores(change.name)) return false;
    apply->changes.push_back(std::move(change));
  }
  return reader.done();
}

class Service {
 public:
  int Run() {
    answer_.mark = kNoMark;
    int end = Serve();
    if (end < 0) answer_.Trouble("failed", "the request is malformed", 0);
    return answer_.Flush() && end >= 0 ? end : kFilesTrouble;
  }

 private:
  static constexpr int kMalformed = -1;

  int Serve() {
    std::string head = input_.Read(sizeof(uint32_t));
    uint32_t length = Reader(head).U32();
    if (head.size() < sizeof length || length > kMaxRequestBytes) return kMalformed;
    payload_ = input_.Read(length);
    Reader reader(payload_);
    if (payload_.size() < length || !ReadCommon(reader, &request_)) return kMalformed;
    answer_.mark = request_.mark;
    FilesTree tree(request_.root, request_.scope.only);
    if (request_.verb == FilesVerb::kLook) {
      std::string_view expected = reader.Str();
      return reader.done() ? Look(expected, tree) : kMalformed;
    }
    if (request_.verb == FilesVerb::kFetch) return Fetch(reader, tree);
    if (request_.verb != FilesVerb::kApply) return kMalformed;
    Apply apply(tree, input_, answer_);
    if (!ReadChanges(reader, request_.scope, payload_.size(), &apply)) return kMalformed;
    return Begin(tree) ? apply.Run() : kFilesTrouble;
  }

  // The head of the answer; false: the root is something else, which is told.
  bool Begin(FilesTree& tree) {
    bool there = tree.Open();
    if (!there && errno != ENOENT) {
      answer_.Trouble("noroot", "it cannot be opened", errno);
      return false;
    }
    std::string epoch = there ? tree.Epoch() : "";
    answer_.Mark().Put("h A ").Put(there).Put(" ").Put(epoch.empty() ? "-" : epoch).Put("\n");
    return true;
  }

  int Look(std::string_view expected, FilesTree& tree) {
    if (!Begin(tree)) return kFilesTrouble;
    Listing listing;
    if (tree.is_open() && !ListTree(tree, request_.scope, &listing)) {
      answer_.Trouble("failed", "the root cannot be listed, or holds too much", 0);
      return kFilesTrouble;
    }
    AnswerLook(listing, expected, answer_);
    answer_.Mark().Put("e\n");
    return kFilesDone;
  }

  int Fetch(Reader& reader, FilesTree& tree) {
    std::vector<std::string> names = reader.StrList();
    bool sound = reader.done();
    for (const std::string& name : names) sound = sound && IsName(name);
    if (!sound) return kMalformed;
    if (!Begin(tree)) return kFilesTrouble;
    if (!tree.is_open()) names.clear();
    AnswerFetch(tree, request_.scope, names, answer_);
    return kFilesDone;
  }

  FilesInput input_;
  FilesAnswer answer_;
  std::string payload_;
  Request request_;
};

}  // namespace

int FilesMain() {
  umask(022);
  IgnoreSignal(SIGPIPE);  // an apply goes on to its end
  return Service().Run();
}

}  // namespace hermes::runner
