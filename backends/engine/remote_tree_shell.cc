#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include "backends/engine/far_talk.h"
#include "backends/engine/plain_text.h"
#include "backends/engine/remote_tree.h"
#include "backends/engine/remote_tree_common.h"
#include "daemon/runtime/status.h"
#include "sync/shell_tree.h"
#include "sync/tar_writer.h"

namespace hermes {
namespace {

using sync::FarAnswer;
using sync::FarVerb;
using sync::RelPath;
using sync::RemoteApply;
using sync::RemoteChange;
using sync::RemoteLook;
using sync::RemoteRoot;
using sync::ShellBlob;

constexpr size_t kMarkBytes = 8;   // random ones
constexpr size_t kStageBytes = 8;  // of a stage's name

// One apply on its way: what was sent so far.
struct Sending {
  RemoteApply apply;
  std::vector<ShellBlob> blobs;
  std::map<sync::Digest, size_t> sent;  // files that are worth a copy, by what they hold
};

class ShellTree : public sync::RemoteTree {
 public:
  ShellTree(RemoteTreeDeps deps, std::shared_ptr<Sandbox> sandbox)
      : deps_(deps), sandbox_(std::move(sandbox)) {}

  Task<absl::StatusOr<RemoteLook>> Look(RemoteRoot root,
                                        std::optional<sync::Digest> expected) override {
    FarAnswer answer({.verb = FarVerb::kLook, .mark = NewMark(), .max_files = kMaxFarFiles});
    CO_ASSIGN_OR_RETURN(std::unique_ptr<FarTalk> talk, co_await Open(root, Lane::kCommand));
    co_await talk->Write(plain::Framed(sync::kShellReadAll));
    co_await talk->Write(sync::ShellLookText(answer.mark(), root, expected));
    CO_RETURN_IF_ERROR(co_await talk->Ask(&answer));
    CO_ASSIGN_OR_RETURN(RemoteLook look, answer.TakeLook(expected));
    DropIgnored(root, &look);
    co_return look;
  }

  Task<absl::StatusOr<sync::RemoteApplied>> Apply(RemoteApply apply) override {
    FarAnswer answer({.verb = FarVerb::kApply, .mark = NewMark(), .changes = apply.changes.size()});
    FillTimes(deps_.clock, &apply);
    Sending sending{.apply = std::move(apply), .blobs = {}, .sent = {}};
    const Lane lane = LaneFor(sending.apply);
    CO_ASSIGN_OR_RETURN(std::unique_ptr<FarTalk> talk, co_await Open(sending.apply.root, lane));
    const std::string text =
        sync::ShellApplyText(answer.mark(), sending.apply, deps_.random.Hex(kStageBytes));
    co_await talk->Write(plain::Framed(text));
    for (size_t i = 0; i < sending.apply.changes.size() && !talk->broken(); ++i) {
      co_await Send(talk.get(), &sending, i);
    }
    if (!talk->broken()) {
      for (const sync::ShellMember& member :
           sync::ShellApplyMembers(sending.apply, sending.blobs)) {
        const sync::TarEntry entry{.name = *RelPath::Parse(member.name),
                                   .size = member.bytes.size()};
        co_await talk->Write(sync::TarHeader(entry));
        co_await talk->Write(member.bytes);
        co_await talk->Write(sync::TarPadding(entry.size));
      }
      co_await talk->Write(sync::TarEnd());
    }
    CO_RETURN_IF_ERROR(co_await talk->Ask(&answer));
    co_return answer.TakeApplied();
  }

  Task<absl::Status> Fetch(RemoteRoot root, Wanted wanted, TakeBytes take) override {
    Fetching fetching{.take = take};
    const Lane lane = LaneFor(wanted);
    for (std::span<const RelPath> rest = wanted.names; !rest.empty();) {
      const size_t count = sync::ShellFetchCount(rest);
      FarAnswer answer({.verb = FarVerb::kFetch, .mark = NewMark()});
      CO_ASSIGN_OR_RETURN(std::unique_ptr<FarTalk> talk, co_await Open(root, lane));
      co_await talk->Write(plain::Framed(sync::kShellReadAll));
      co_await talk->Write(sync::ShellFetchText(answer.mark(), root, rest.first(count)));
      CO_RETURN_IF_ERROR(co_await FetchPart(talk.get(), &answer, &fetching));
      rest = rest.subspan(count);
    }
    co_return co_await take(sync::TarEnd());
  }

 private:
  std::string NewMark() { return "@" + deps_.random.Hex(kMarkBytes); }

  Task<absl::StatusOr<std::unique_ptr<FarTalk>>> Open(RemoteRoot root, Lane lane) {
    CO_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream,
                        co_await sandbox_->OpenStream(
                            std::string(plain::BootLine(shell::Kind::kSh)), lane, root.wish));
    co_return std::make_unique<FarTalk>(deps_.clock, std::move(stream), root.wish);
  }

  Task<void> Send(FarTalk* talk, Sending* sending, size_t index);

  RemoteTreeDeps deps_;
  const std::shared_ptr<Sandbox> sandbox_;
};

Task<void> ShellTree::Send(FarTalk* talk, Sending* sending, size_t index) {
  const RemoteChange& change = sending->apply.changes[index];
  ShellBlob& blob = sending->blobs.emplace_back();
  if (!change.wanted) co_return;
  blob.fate = ShellBlob::Fate::kBad;
  if (change.path.str().size() > sync::kMaxShellName || !sync::HasPlainName(change.path.str()))
    co_return;
  const uint64_t size = change.wanted->size;
  const bool shared = size >= sync::kMinSharedBytes;
  const auto known = sending->sent.find(change.wanted->digest);
  if (shared && known != sending->sent.end()) {
    blob = {.fate = ShellBlob::Fate::kCopied, .from = known->second};
    co_return;
  }
  const uint32_t bits = sending->apply.secret ? 0700 : 0755;
  const absl::StatusOr<RelPath> name =
      RelPath::Parse(std::string(sync::kStagedFolder) + change.path.str());
  if (!name.ok()) co_return;
  co_await talk->Write(
      sync::TarHeader({.name = *name,
                       .size = size,
                       .mode = change.wanted->executable ? bits : bits & ~0111u,
                       .mtime_s = static_cast<uint64_t>(change.mtime_ns) / 1'000'000'000}));
  const SentFile sent = co_await SendFile(talk, sending->apply.source, index, size);
  co_await talk->Write(sync::TarPadding(size));
  if (!sent.whole || sent.digest != change.wanted->digest) co_return;
  blob.fate = ShellBlob::Fate::kSent;
  if (shared) sending->sent.emplace(sent.digest, index);
}

}  // namespace

std::unique_ptr<sync::RemoteTree> MakeShellTree(RemoteTreeDeps deps,
                                                std::shared_ptr<Sandbox> sandbox) {
  return std::make_unique<ShellTree>(deps, std::move(sandbox));
}

}  // namespace hermes
