#include <utility>

#include "backends/engine/far_talk.h"
#include "backends/engine/files_request.h"
#include "backends/engine/remote_tree.h"
#include "backends/engine/remote_tree_common.h"
#include "daemon/runtime/status.h"
#include "sync/tar_writer.h"

namespace hermes {
namespace {

using sync::FarAnswer;
using sync::FarVerb;
using sync::RemoteApply;
using sync::RemoteLook;
using sync::RemoteRoot;

constexpr size_t kMarkBytes = 4;  // random ones; there is no noise here to be taken for it

using OnFollow = std::function<void(std::string run_id)>;

class RunnerTree : public sync::RemoteTree {
 public:
  RunnerTree(RemoteTreeDeps deps, OpenFiles open) : deps_(deps), open_(std::move(open)) {}

  Task<absl::StatusOr<RemoteLook>> Look(RemoteRoot root,
                                        std::optional<sync::Digest> expected) override {
    FarAnswer answer({.verb = FarVerb::kLook, .mark = NewMark(), .max_files = kMaxFarFiles});
    CO_ASSIGN_OR_RETURN(
        std::unique_ptr<FarTalk> talk,
        co_await Begin(root, LookRequest(answer.mark(), root, expected), Lane::kCommand));
    CO_RETURN_IF_ERROR(co_await talk->Ask(&answer));
    CO_ASSIGN_OR_RETURN(RemoteLook look, answer.TakeLook(expected));
    DropIgnored(root, &look);
    co_return look;
  }

  Task<absl::StatusOr<sync::RemoteApplied>> Apply(RemoteApply apply) override {
    FillTimes(deps_.clock, &apply);
    FarAnswer answer({.verb = FarVerb::kApply, .mark = NewMark(), .changes = apply.changes.size()});
    CO_ASSIGN_OR_RETURN(std::unique_ptr<FarTalk> talk,
                        co_await Begin(apply.root, ApplyRequest(answer.mark(), apply),
                                       LaneFor(apply), std::move(apply.on_follow)));
    const std::vector<std::optional<uint32_t>> shared = SharedBytes(apply.changes);
    for (size_t i = 0; i < apply.changes.size() && !talk->broken(); ++i) {
      const sync::MaybeContent& wanted = apply.changes[i].wanted;
      if (!wanted || shared[i]) continue;
      const SentFile sent = co_await SendFile(talk.get(), apply.source, i, wanted->size);
      const bool good = sent.whole && sent.digest == wanted->digest;
      co_await talk->Write(FileTrailer(good, sent.digest));
    }
    CO_RETURN_IF_ERROR(co_await talk->Ask(&answer));
    co_return answer.TakeApplied();
  }

  Task<absl::Status> Fetch(RemoteRoot root, Wanted wanted, TakeBytes take) override {
    if (wanted.names.empty()) co_return co_await take(sync::TarEnd());
    FarAnswer answer({.verb = FarVerb::kFetch, .mark = NewMark()});
    CO_ASSIGN_OR_RETURN(
        std::unique_ptr<FarTalk> talk,
        co_await Begin(root, FetchRequest(answer.mark(), root, wanted.names), LaneFor(wanted)));
    Fetching fetching{.take = take};
    CO_RETURN_IF_ERROR(co_await FetchPart(talk.get(), &answer, &fetching));
    co_return co_await take(sync::TarEnd());
  }

 private:
  std::string NewMark() { return "@" + deps_.random.Hex(kMarkBytes); }

  // `on_follow` before more is said, so that who follows is not behind it on the way.
  Task<absl::StatusOr<std::unique_ptr<FarTalk>>> Begin(RemoteRoot root, std::string request,
                                                       Lane lane, OnFollow on_follow = {}) {
    if (request.size() > kMaxFilesRequest)
      co_return Error(Reason::k_SYNC_FAILED, "too many files for one request");
    CO_ASSIGN_OR_RETURN(FilesStream files, co_await open_(lane, root.wish));
    if (on_follow && !files.run_id.empty()) on_follow(files.run_id);
    auto talk = std::make_unique<FarTalk>(deps_.clock, std::move(files.stream), root.wish);
    co_await talk->Write(request);
    co_return talk;
  }

  RemoteTreeDeps deps_;
  const OpenFiles open_;
};

}  // namespace

std::unique_ptr<sync::RemoteTree> MakeRunnerTree(RemoteTreeDeps deps, OpenFiles open) {
  return std::make_unique<RunnerTree>(deps, std::move(open));
}

}  // namespace hermes
