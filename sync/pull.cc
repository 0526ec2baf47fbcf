#include "sync/pull.h"

#include <fcntl.h>

#include <algorithm>
#include <set>
#include <utility>

#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"
#include "sync/land_place.h"
#include "sync/land_right.h"
#include "sync/undo.h"
#include "sync/withheld.h"

namespace hermes::sync {
namespace {

absl::Status Withdrawn() { return absl::CancelledError("nobody waits for this sync any more"); }

// Internal: what was seen no longer holds, so all is looked at again.
absl::Status Again() { return Error(Reason::k_PLAN_STALE, "the files do not stand still"); }

bool Moves(const Action& action) {
  return action.verb == Verb::kTake || action.verb == Verb::kTakeAside ||
         action.verb == Verb::kKeepRemote;
}

Effect EffectOf(const Action& action) {
  switch (action.verb) {
    case Verb::kTakeAside:
      return Effect::kBeside;
    case Verb::kKeepRemote:
      return action.remote ? Effect::kKeepCopy : Effect::kNothing;
    case Verb::kTake:
      if (!action.remote) return Effect::kDelete;
      return action.host ? Effect::kReplace : Effect::kCreate;
    default:
      return Effect::kNothing;
  }
}

// A file that has bytes which the host could have, but for this oddity.
bool HidesWork(Oddity oddity) {
  return oddity == Oddity::kName || oddity == Oddity::kUnreadable || oddity == Oddity::kTooBig ||
         oddity == Oddity::kOtherFileSystem;
}

absl::Status TooMuch(const Mount& mount) {
  return Error(Reason::k_SYNC_FAILED,
               "with the sandbox's files the host's would exceed the mount's limits: raise them",
               {{"mount", mount.id}});
}

MaybeContent At(const FileMap& files, const RelPath& path) {
  const auto found = files.find(path);
  return found == files.end() ? MaybeContent() : found->second;
}

// Sizes are what the far side says.
uint64_t Sum(uint64_t a, uint64_t b) { return b > UINT64_MAX - a ? UINT64_MAX : a + b; }

absl::Status DiskFull(const Mount& mount, std::string_view why) {
  return Error(Reason::k_DISK_FULL, why, {{"mount", mount.id}});
}

// The log hears of it when it changes: once in the life of a daemon, as a rule.
void TellConfinement(const unpack::Hello& hello, std::string* told) {
  std::string layers = DescribeConfinement(hello);
  if (told == nullptr || *told == layers) return;
  LogInfo("hermes-unpack is confined by: " + layers);
  *told = std::move(layers);
}

void TellReverted(const SideWork& work, const LandResult& result) {
  SyncEntry entry{.mount = work.side->mount.id, .path = result.path.str()};
  entry.effect = result.removes ? Effect::kDelete : Effect::kReplace;
  const bool done = result.outcome == Outcome::kDone;
  const bool edited = result.outcome == Outcome::kHostChanged;
  entry.fate = done ? Fate::kDone : edited ? Fate::kChanged : Fate::kFailed;
  if (edited) entry.note = "edited since: left alone";
  if (result.outcome == Outcome::kInTheWay) entry.note = "something else is in the way";
  if (result.outcome == Outcome::kFailed) entry.note = std::string(result.why.message());
  work.meter->Entry(entry);
  work.report->counts.applied += done ? 1 : 0;
  work.report->counts.conflicts += edited ? 1 : 0;
  work.report->counts.failed += done || edited ? 0 : 1;
}

}  // namespace

Task<absl::Status> RevertSide(SideWork work, std::string land_id, std::string lock_file) {
  const std::shared_ptr<MountPair> pair = work.side->pair;
  CO_ASSIGN_OR_RETURN(const LandRight right, co_await TakeLandRight(work, std::move(lock_file)));
  if (IsWithdrawn(work.wish)) co_return Withdrawn();
  work.meter->Phase("landing");
  pair->recovered = false;  // until it has come to its end
  CO_ASSIGN_OR_RETURN(const LandReport report, co_await work.deps.workers.Run([&] {
    return UndoStore(work.deps.fs, pair->root.fd()).Revert(land_id);
  }));
  for (const LandResult& result : report.results) TellReverted(work, result);
  const absl::Status seen = co_await RefreshHost(work, Effort::kChanges);
  if (report.disk_full) {
    co_return DiskFull(work.side->mount,
                       "the host's disk became full: what had been put back was undone");
  }
  co_return seen;
}

Task<void> SidePull::Look() { looked_ = co_await LookOnce(); }

Task<absl::Status> SidePull::LookOnce() {
  {
    const MountPair::Turn turn = co_await MountPair::TakeTurn(pair_);
    CO_RETURN_IF_ERROR(co_await SettleSent(work_));
    base_ = pair_->base.files();
    base_epoch_ = pair_->base.epoch();
  }
  work_.meter->Phase("comparing");
  const uint64_t doubts = pair_->doubts;
  FileMap withheld = pair_->withheld;
  CO_ASSIGN_OR_RETURN(RemoteLook look, co_await work_.side->far->Look(work_.LookRoot(),
                                                                      DigestWith(base_, withheld)));
  exists_ = look.exists;
  far_epoch_ = look.epoch;
  base_holds_ = !base_epoch_.empty() && far_epoch_ == base_epoch_;
  if (pair_->base.epoch() == base_epoch_) pair_->met = base_holds_ && pair_->doubts == doubts;
  far_ = std::move(look.manifest);
  if (work_.side->withholds)
    withheld_ = co_await work_.deps.workers.Run([this] { return TakeWithheld(&far_); });
  if (look.same) {
    far_.files = base_;
    withheld_.files = std::move(withheld);
  } else {
    pair_->withheld = RememberedOf(withheld_.files);
  }
  const Mount& mount = work_.side->mount;
  const bool fits = !mount.WritesHost() || far_.files.size() <= mount.max_files;
  co_return fits ? absl::OkStatus() : TooMuch(mount);
}

Task<absl::Status> SidePull::Finish() {
  absl::Status status = co_await TryAll();
  // What did not land is removed, file by file: not on the loop.
  if (stage_.has_value()) {
    co_await work_.deps.workers.Run([this] {
      stage_.reset();
      return true;
    });
  }
  co_return status;
}

Task<absl::Status> SidePull::TryAll() {
  for (int attempt = 1;; ++attempt) {
    if (attempt > 1) looked_ = co_await LookOnce();
    const bool last = attempt == kSyncAttempts;
    absl::Status status = looked_.ok() ? co_await Try(last) : looked_;
    const bool again = ReasonOf(status) == Reason::k_PLAN_STALE;
    if (!again && !IsTransport(status)) co_return status;
    if (!again && !last) co_await PauseBefore(attempt + 1, work_);
    if (IsWithdrawn(work_.wish)) co_return Withdrawn();
    if (last) co_return status;
  }
}

std::vector<Action> SidePull::Plan() const {
  static const FileMap kNothing;
  return PlanPull({.mount = work_.side->mount,
                   .ignore = work_.side->ignore,
                   .base = base_holds_ ? pair_->base.files() : kNothing,
                   .host = pair_->tree.manifest(),
                   .remote = far_,
                   .approve_deletes = options_.approve_deletes,
                   .conflict_tag = options_.conflict_tag});
}

Task<absl::Status> SidePull::Try(bool last) {
  lacking_.clear();
  notes_.clear();
  if (!exists_) co_return absl::OkStatus();  // nothing is there, so nothing is lost or changed
  std::vector<Action> actions;
  {
    const MountPair::Turn turn = co_await MountPair::TakeTurn(pair_);
    CO_RETURN_IF_ERROR(co_await RefreshHost(work_, Effort::kChanges));
    actions = co_await work_.deps.workers.Run([this] { return Plan(); });
  }
  CO_RETURN_IF_ERROR(CheckLimits(actions));
  if (options_.dry_run) {
    TellOddities();
    for (const Action& action : actions) {
      CountLeft(action);
      if (action.verb == Verb::kAgree && action.why == Why::kSame) continue;
      if (action.verb != Verb::kLeave && action.why == Why::kConflict)
        ++work_.report->counts.conflicts;
      Tell(action, Fate::kPlanned, "");
    }
    co_return absl::OkStatus();
  }
  co_await KeepFetched(actions);
  if (std::any_of(actions.begin(), actions.end(), Moves))
    CO_RETURN_IF_ERROR(co_await Receive(std::move(actions), last));
  co_return co_await Land(last);
}

// Of what came in an earlier attempt, what is still the version that is wanted.
Task<void> SidePull::KeepFetched(std::vector<Action> actions) {
  if (!stage_.has_value()) fetched_.clear();
  std::map<RelPath, Fetched> others;
  fetched_.swap(others);
  for (const Action& action : actions) {
    const auto known = others.find(action.path);
    if (known == others.end() || !action.FetchesRemote()) continue;
    Content& content = known->second.content;
    if (content.digest != action.remote->digest) continue;
    content.executable = action.remote->executable;  // the bytes had to come, this is of the look
    far_.files.at(action.path) = content;            // whose size is known
    fetched_.insert(others.extract(known));
  }
  if (others.empty()) co_return;
  co_await work_.deps.workers.Run([this, &others] {
    for (const auto& [path, old] : others) work_.deps.fs.Unlink({stage_->files(), old.slot});
    return true;
  });
}

Task<absl::Status> SidePull::Receive(std::vector<Action> actions, bool last) {
  std::erase_if(actions, [this](const Action& action) {
    return !action.FetchesRemote() || fetched_.contains(action.path);
  });
  uint64_t bytes = 0;
  for (const Action& action : actions) bytes = Sum(bytes, action.remote->size);
  if (!stage_.has_value()) {
    absl::StatusOr<Stage> made =
        co_await work_.deps.workers.Run([this, bytes]() -> absl::StatusOr<Stage> {
          return Landing(work_.deps.fs, pair_->root.fd()).NewStage(options_.land_id, bytes);
        });
    CO_RETURN_IF_ERROR(made.status());
    stage_.emplace(*std::move(made));
  }
  if (actions.empty()) co_return absl::OkStatus();
  co_return co_await Fetch(std::move(actions), last);
}

// Of exactly these.
Task<absl::Status> SidePull::Fetch(std::vector<Action> actions, bool last) {
  std::vector<WantedFile> wanted;
  std::vector<RelPath> names;
  uint64_t bytes = 0;
  for (const Action& action : actions) {
    // Not the size that was told: a file may have grown since, and level B tells none.
    wanted.push_back({action.path, work_.side->mount.max_file_bytes});
    names.push_back(action.path);
    bytes = Sum(bytes, action.remote->size);
  }
  if (IsWithdrawn(work_.wish)) co_return Withdrawn();
  work_.meter->Phase("fetching");
  const SyncProgress before = work_.meter->progress();
  work_.meter->Expect(wanted.size(), bytes);
  const Fd quarantine(
      options_.salvage || work_.deps.quarantine_dir.empty()
          ? -1
          : open(work_.deps.quarantine_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  BundleSpec spec{.program = work_.deps.unpack_program, .wanted = wanted};
  spec.fs = &work_.deps.fs;
  spec.stage = stage_->files();
  spec.first_slot = next_slot_;
  spec.keep_whole = true;
  spec.quarantine_fd = quarantine.get();
  spec.quarantine_name = options_.land_id;
  spec.max_total_bytes = work_.side->mount.max_bytes;
  for (const auto& [path, known] : fetched_)
    spec.max_total_bytes -= std::min(spec.max_total_bytes, known.content.size);
  spec.max_members = static_cast<uint32_t>(std::max<uint64_t>(work_.side->mount.max_files, 1));
  spec.salvage = options_.salvage;
  spec.on_progress = [this, before](uint32_t files, uint64_t staged) {
    const SyncProgress& now = work_.meter->progress();
    work_.meter->Done(before.files_done + files - now.files_done,
                      before.bytes_done + staged - now.bytes_done);
  };
  // Whoever sends what nobody reads any more would never be told so by what it sends.
  RemoteRoot root = work_.Root();
  root.wish = std::make_shared<Wish>();
  const auto let_go = [wish = root.wish] { wish->Withdraw(); };
  const Wish::Ear ear(work_.wish, let_go);
  spec.on_stopped = let_go;
  CO_ASSIGN_OR_RETURN(
      const std::unique_ptr<Bundle> bundle,
      Bundle::Start(work_.deps.loop, work_.deps.clock, work_.deps.workers, std::move(spec)));
  absl::Status stream = co_await work_.side->far->Fetch(
      std::move(root), {std::move(names), bytes},
      [this, to = bundle.get()](std::string_view piece) { return Take(to, piece); });
  const absl::StatusOr<BundleResult> result = co_await bundle->Finish(std::move(stream));
  // Whoever ends this daemon may have killed its parser: nobody lied.
  if (IsWithdrawn(work_.wish)) co_return Withdrawn();
  CO_RETURN_IF_ERROR(result.status());
  TellConfinement(result->confinement, work_.deps.confinement);
  CO_RETURN_IF_ERROR(TakeLies(*result));
  const absl::Status taken = TakeFiles(*result, wanted, last);
  next_slot_ += static_cast<uint32_t>(wanted.size());
  co_return taken;
}

Task<absl::Status> SidePull::Take(Bundle* bundle, std::string_view bytes) {
  if (IsWithdrawn(work_.wish)) co_return Withdrawn();
  co_return co_await bundle->Feed(bytes);
}

// A host directory beyond the mount's limits could not be looked at any more.
absl::Status SidePull::CheckLimits(const std::vector<Action>& actions) const {
  const Mount& mount = work_.side->mount;
  uint64_t files = 0;
  uint64_t bytes = 0;
  const auto add = [&files, &bytes](const Content& content) {
    ++files;
    bytes = Sum(bytes, content.size);
  };
  std::set<RelPath> moved;
  for (const Action& action : actions) {
    if (action.verb != Verb::kTake && action.verb != Verb::kTakeAside) continue;
    if (action.remote) add(*action.remote);
    if (action.verb == Verb::kTake) moved.insert(action.path);
  }
  if (files == 0) return absl::OkStatus();  // it does not grow
  for (const auto& [path, content] : pair_->tree.manifest().files) {
    if (!moved.contains(path)) add(content);
  }
  if (files <= mount.max_files && bytes <= mount.max_bytes) return absl::OkStatus();
  return TooMuch(mount);
}

absl::Status SidePull::TakeLies(const BundleResult& result) {
  if (result.lies.empty()) return absl::OkStatus();
  const bool too_large = std::all_of(result.lies.begin(), result.lies.end(),
                                     [](const unpack::Lie& lie) { return IsLimit(lie.what); });
  work_.report->suspect = work_.report->suspect || !too_large;
  for (const unpack::Lie& lie : result.lies) {
    SyncEntry entry{.mount = work_.side->mount.id, .path = lie.name, .why = Why::kLie};
    entry.note = unpack::Text(lie.what);
    if (result.quarantined) entry.note += "; the stream is kept as " + options_.land_id;
    work_.meter->Entry(entry);
    ++work_.report->counts.rejected;
  }
  if (options_.salvage) return absl::OkStatus();
  return Error(Reason::k_SYNC_FAILED,
               too_large ? "the sandbox sends more than the mount's limits allow: raise them, or "
                           "salvage what is in order"
                         : "the sandbox sends what breaks the rules, so nothing of it was used: "
                           "salvage takes what is in order",
               {{"mount", work_.side->mount.id},
                {"lie", std::string(unpack::Text(result.lies.front().what))}});
}

// The manifest and the stream come from the same place at two moments: what arrived counts.
absl::Status SidePull::TakeFiles(const BundleResult& result, const std::vector<WantedFile>& wanted,
                                 bool last) {
  bool stable = true;
  for (const StagedFile& file : result.staged) {
    const RelPath& path = wanted[file.index].path;
    Content& known = far_.files.at(path);
    if (known != file.content) {
      stable = false;
      notes_[path] = "it changed while it was fetched";
    }
    known = file.content;
    fetched_.insert_or_assign(path, Fetched{file.content, StagedName(file.index, next_slot_)});
    work_.report->counts.bytes += file.content.size;
  }
  if (!result.broke.ok()) return result.broke;  // what is missing may still come
  for (const unpack::Odd& odd : result.oddities) {
    if (odd.index >= wanted.size()) continue;
    const RelPath& path = wanted[odd.index].path;
    const std::string why(unpack::Text(odd.why));
    if (odd.why == unpack::Oddity::kSpecialBits) {  // it came all the same
      notes_.emplace(path, why);
    } else {
      lacking_.insert_or_assign(path, Lack{why});
    }
  }
  for (const uint32_t index : result.missing)
    lacking_.emplace(wanted[index].path, Lack{"it was gone when it was fetched", true});
  stable = stable && lacking_.empty();
  return stable || last || options_.salvage ? absl::OkStatus() : Again();
}

Task<absl::Status> SidePull::Land(bool last) {
  CO_ASSIGN_OR_RETURN(LandRight right, co_await TakeLandRight(work_, options_.lock_file));
  CO_RETURN_IF_ERROR(co_await RefreshHost(work_, Effort::kChanges));
  if (pair_->base.epoch() != base_epoch_ || !pair_->base.sent().empty()) co_return Again();
  if (!pair_->recovered) {
    CO_RETURN_IF_ERROR(co_await work_.deps.workers.Run(
        [this] { return Landing(work_.deps.fs, pair_->root.fd()).Recover().status(); }));
    pair_->recovered = true;
    CO_RETURN_IF_ERROR(co_await RefreshHost(work_, Effort::kChanges));
  }
  const std::vector<Action> actions = co_await work_.deps.workers.Run([this] { return Plan(); });
  const auto overtaken = [this](const Action& action) { return Overtaken(action); };
  if (!last && std::any_of(actions.begin(), actions.end(), overtaken)) co_return Again();
  CO_RETURN_IF_ERROR(CheckLimits(actions));
  if (IsWithdrawn(work_.wish)) co_return Withdrawn();
  work_.meter->Phase("landing");
  TellOddities();
  Batch batch = Sort(actions);
  const bool lands = stage_.has_value() && (batch.copies || !batch.changes.empty());
  if (!lands) {
    right.lock.reset();
    co_return co_await Remember(std::move(batch.agreed));
  }
  CO_ASSIGN_OR_RETURN(const LandReport report, co_await LandStaged(std::move(batch.changes)));
  right.lock.reset();
  for (size_t i = 0; i < report.results.size(); ++i) {
    TellLanded(*batch.landing[i], report.results[i]);
    if (report.results[i].outcome == Outcome::kDone)
      batch.agreed.push_back({batch.landing[i]->path, batch.landing[i]->remote});
  }
  work_.report->revertible = work_.report->revertible || !report.results.empty();
  CO_RETURN_IF_ERROR(co_await Remember(std::move(batch.agreed)));
  if (!report.disk_full) co_return absl::OkStatus();
  co_return DiskFull(work_.side->mount,
                     "the host's disk became full: what had landed was taken back");
}

// All that the lock is needed for.
Task<absl::StatusOr<LandReport>> SidePull::LandStaged(std::vector<Change> changes) {
  absl::StatusOr<LandReport> report = co_await work_.deps.workers.Run([&, this] {
    const int64_t now_s = SecondsNow(work_.deps.clock);
    const int root = pair_->root.fd();
    absl::StatusOr<LandReport> landed =
        Landing(work_.deps.fs, root)
            .Land(*std::exchange(stage_, std::nullopt), std::move(changes), now_s);
    if (!landed.ok() || landed->disk_full) return landed;
    UndoStore(work_.deps.fs, root).Tidy(work_.deps.undo, now_s);
    return landed;
  });
  pair_->recovered = report.ok();
  co_return report;
}

// A push since the look has sent another version there: what was seen is of yesterday.
bool SidePull::Overtaken(const Action& action) const {
  return base_holds_ && At(pair_->base.files(), action.path) != At(base_, action.path);
}

// Tells what does not move, too. Its pointers are into `actions`.
SidePull::Batch SidePull::Sort(const std::vector<Action>& actions) {
  Batch batch;
  for (const Action& action : actions) {
    CountLeft(action);
    if (action.verb == Verb::kLeave) {
      Tell(action, Fate::kPlanned, "");
      continue;
    }
    const auto fetched = fetched_.find(action.path);
    const bool lacks = Moves(action) && (!stage_.has_value() ||
                                         (action.FetchesRemote() && fetched == fetched_.end()));
    if (lacks || Overtaken(action)) {
      TellLacking(action);
      continue;
    }
    if (action.verb == Verb::kAgree || action.verb == Verb::kKeepRemote) {
      batch.agreed.push_back({action.path, action.remote});
      batch.copies = batch.copies || action.FetchesRemote();
      if (action.verb == Verb::kAgree && action.why == Why::kSame) continue;
      if (action.why == Why::kConflict) ++work_.report->counts.conflicts;
      Tell(action, Fate::kDone, WhereKept(action));
      continue;
    }
    const bool aside = action.verb == Verb::kTakeAside;
    batch.changes.push_back({aside ? *action.aside : action.path,
                             aside ? MaybeContent() : action.host, action.remote,
                             action.remote ? fetched->second.slot : ""});
    batch.landing.push_back(&action);
  }
  return batch;
}

// What both sides hold now. A far end that the base is not of gets a base, and our token last: with
// the token gone, as after a kill right here, there simply is no base.
Task<absl::Status> SidePull::Remember(std::vector<BaseChange> agreed) {
  pair_->refused.clear();
  pair_->pushed.reset();
  if (base_holds_) co_return co_await CommitBase(work_, std::move(agreed));
  CO_RETURN_IF_ERROR(co_await BeginBase(work_));
  CO_RETURN_IF_ERROR(co_await CommitBase(work_, std::move(agreed)));
  RemoteApply token;
  token.root = work_.Root();
  token.epoch = pair_->base.epoch();
  const uint64_t doubts = pair_->doubts;
  const absl::StatusOr<RemoteApplied> applied = co_await work_.side->far->Apply(std::move(token));
  // Our token may lie in a place that nobody has looked at, where it says nothing.
  if (!applied.ok() || applied->epoch != far_epoch_) co_return co_await BeginBase(work_);
  pair_->met = pair_->doubts == doubts;
  co_return absl::OkStatus();
}

void SidePull::TellOddities() {
  if (!work_.side->mount.WritesHost()) return;
  for (const auto& [name, oddity] : far_.oddities) TellOdd(name, oddity);
  for (const std::string& name : WithheldNames(withheld_)) TellOdd(name, Oddity::kSecret);
}

void SidePull::TellOdd(const std::string& name, Oddity oddity) {
  SyncEntry entry{.mount = work_.side->mount.id, .path = name, .why = Why::kOdd};
  entry.note = "in the sandbox: " + std::string(OddityName(oddity));
  work_.meter->Entry(entry);
  ++work_.report->counts.rejected;
  if (HidesWork(oddity)) ++work_.report->unsaved;
}

void SidePull::TellLacking(const Action& action) {
  work_.report->unsaved += action.remote ? 1 : 0;
  const auto lack = lacking_.find(action.path);
  if (lack == lacking_.end())
    return Tell(action, Fate::kChanged, "it changed during the sync: the next one decides");
  Action told = action;
  if (lack->second.gone) told.why = Why::kGone;
  Tell(told, Fate::kChanged, lack->second.note);
}

void SidePull::Tell(const Action& action, Fate fate, std::string_view note) {
  SyncEntry entry{.mount = work_.side->mount.id, .path = action.path.str()};
  entry.effect = EffectOf(action);
  entry.fate = fate;
  entry.why = action.why;
  entry.host = action.host;
  entry.remote = action.remote;
  if (action.remote) entry.size = action.remote->size;
  if (action.aside) entry.aside = action.aside->str();
  entry.note = note;
  if (const auto more = notes_.find(action.path); more != notes_.end())
    entry.note += (note.empty() ? "" : "; ") + more->second;
  work_.meter->Entry(entry);
}

// For whoever wants it back: nothing takes the place of such a version, so nothing undoes it.
std::string SidePull::WhereKept(const Action& action) const {
  const auto fetched = fetched_.find(action.path);
  if (fetched == fetched_.end()) return "";
  return "the sandbox's version is kept as " + PathOfSlot(options_.land_id, fetched->second.slot);
}

void SidePull::TellLanded(const Action& action, const LandResult& result) {
  SyncCounts& counts = work_.report->counts;
  const std::string kept = WhereKept(action);
  if (action.why == Why::kConflict) ++counts.conflicts;
  switch (result.outcome) {
    case Outcome::kDone:
      ++counts.applied;
      return Tell(
          action, Fate::kDone,
          result.kept ? "an edit of the host that came meanwhile is kept in the undo store" : "");
    case Outcome::kHostChanged:
      if (action.why != Why::kConflict) ++counts.conflicts;
      return Tell(action, Fate::kChanged,
                  "edited on the host meanwhile" + (kept.empty() ? "" : "; " + kept));
    case Outcome::kInTheWay:
      ++counts.failed;
      work_.report->unsaved += action.remote ? 1 : 0;
      return Tell(action, Fate::kFailed, "a link, a directory or something special is in the way");
    case Outcome::kFailed:
      ++counts.failed;
      work_.report->unsaved += action.remote ? 1 : 0;
      return Tell(action, Fate::kFailed, std::string(result.why.message()));
  }
}

void SidePull::CountLeft(const Action& action) {
  if (action.verb != Verb::kLeave) return;
  SyncReport& report = *work_.report;
  switch (action.why) {
    case Why::kHeld:
      ++report.counts.held;
      return;
    case Why::kConflict:
      ++report.counts.conflicts;
      report.unsaved += work_.side->mount.WritesHost() ? 1 : 0;
      return;
    case Why::kTree:
      ++report.counts.rejected;
      report.unsaved += action.remote ? 1 : 0;
      return;
    case Why::kOdd:  // of the host; those of the far side are told by their own names
      if (far_.files.contains(action.path) || far_.oddities.empty()) ++report.unsaved;
      ++report.counts.rejected;
      return;
    case Why::kDenied:
      ++report.counts.rejected;
      return;
    default:
      return;
  }
}

}  // namespace hermes::sync
