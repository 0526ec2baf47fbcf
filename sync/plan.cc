#include "sync/plan.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace hermes::sync {
namespace {

// One path in the three trees. An odd side holds something there that is no file: unknown ground.
struct Sides {
  MaybeContent base;
  MaybeContent host;
  MaybeContent remote;
  bool host_odd = false;
  bool remote_odd = false;
  bool denied = false;
};

struct Decision {
  Verb verb;
  Why why;
};

Decision Conflict(ConflictPolicy policy, bool host_exists) {
  switch (policy) {
    case ConflictPolicy::kRemote:
      return {Verb::kTake, Why::kConflict};
    case ConflictPolicy::kHost:
      return {Verb::kKeepRemote, Why::kConflict};
    case ConflictPolicy::kBoth:
      return {host_exists ? Verb::kTakeAside : Verb::kTake, Why::kConflict};
    case ConflictPolicy::kAbort:
      break;
  }
  return {Verb::kLeave, Why::kConflict};
}

// The three-way rules. nullopt: a pull has nothing to do or say here.
std::optional<Decision> Decide(const Sides& at, const Mount& mount) {
  if (at.remote_odd) return Decision{Verb::kLeave, Why::kOdd};
  if (at.remote == at.base) return std::nullopt;
  if (at.host_odd) return Decision{Verb::kLeave, Why::kOdd};
  if (at.host == at.remote) return Decision{Verb::kAgree, Why::kSame};

  // The remote side has a change that the host lacks.
  const bool host_edited = at.host != at.base;
  if (!at.remote && host_edited) return Decision{Verb::kAgree, Why::kHostStands};
  if (!mount.WritesHost()) {
    if (!host_edited) return Decision{Verb::kLeave, Why::kPushOnly};
    const bool host_wins = mount.conflict == ConflictPolicy::kHost;
    return Decision{host_wins ? Verb::kKeepRemote : Verb::kLeave, Why::kConflict};
  }
  if (at.denied) return Decision{Verb::kLeave, Why::kDenied};
  if (host_edited) return Conflict(mount.conflict, at.host.has_value());
  if (!at.remote && mount.deletes == DeletePolicy::kNever) return std::nullopt;
  if (!at.remote && mount.deletes == DeletePolicy::kReport)
    return Decision{Verb::kLeave, Why::kNotDeleted};
  return Decision{Verb::kTake, Why::kRemoteChanged};
}

// The name of the directory that `name` lies in; empty: the root.
std::string_view Above(std::string_view name) {
  const size_t slash = name.rfind('/');
  return slash == name.npos ? std::string_view() : name.substr(0, slash);
}

// What is odd there, above it, or below it.
std::optional<Oddity> OddityAt(const Manifest& side, std::string_view path) {
  if (side.oddities.empty()) return std::nullopt;
  for (std::string_view up = path; !up.empty(); up = Above(up)) {
    const auto found = side.oddities.find(std::string(up));
    if (found != side.oddities.end()) return found->second;
  }
  const auto below = side.oddities.lower_bound(std::string(path) + "/");
  if (below == side.oddities.end() || !Related(below->first, path)) return std::nullopt;
  return below->second;
}

bool IsOdd(const Manifest& side, std::string_view path) { return OddityAt(side, path).has_value(); }

// Walks several sorted maps as one: each path once, with what each map has of it.
class Merge {
 public:
  explicit Merge(std::vector<const FileMap*> maps) : maps_(std::move(maps)) {
    for (const FileMap* map : maps_) at_.push_back(map->begin());
  }

  // The next path, or null at the end; (*versions)[i] is what the i-th map says of it.
  const RelPath* Next(std::vector<MaybeContent>* versions) {
    const RelPath* least = nullptr;
    for (size_t i = 0; i < maps_.size(); ++i) {
      if (at_[i] != maps_[i]->end() && (least == nullptr || at_[i]->first < *least))
        least = &at_[i]->first;
    }
    versions->assign(maps_.size(), std::nullopt);
    for (size_t i = 0; least != nullptr && i < maps_.size(); ++i) {
      if (at_[i] != maps_[i]->end() && at_[i]->first == *least) (*versions)[i] = at_[i]++->second;
    }
    return least;
  }

 private:
  std::vector<const FileMap*> maps_;
  std::vector<FileMap::const_iterator> at_;
};

class Planner {
 public:
  explicit Planner(const PullInput& input) : in_(input) {}

  std::vector<Action> Run() {
    Merge merge({&in_.base, &in_.host.files, &in_.remote.files});
    std::vector<MaybeContent> versions;
    while (const RelPath* path = merge.Next(&versions)) {
      if (!in_.ignore.Ignores(path->str())) Consider(*path, versions);
    }
    GuardDeletions();
    while (LeaveClashes()) {
    }
    return std::move(actions_);
  }

 private:
  void Consider(const RelPath& path, const std::vector<MaybeContent>& versions) {
    const Sides at{.base = versions[0],
                   .host = versions[1],
                   .remote = versions[2],
                   .host_odd = IsOdd(in_.host, path.str()),
                   .remote_odd = IsOdd(in_.remote, path.str()),
                   .denied = DeniedOnPull(path)};
    const std::optional<Decision> decision = Decide(at, in_.mount);
    if (!decision.has_value()) return;
    Action action{path, decision->verb, decision->why, at.host, at.remote};
    if (action.verb == Verb::kTakeAside) {
      action.aside = FreshName(path);
      if (!action.aside.has_value()) action.verb = Verb::kLeave;
    }
    actions_.push_back(std::move(action));
  }

  // "dir/stem.conflict-<tag>[-<n>].ext", shortened to fit; nullopt: the path has no room for it.
  std::optional<RelPath> FreshName(const RelPath& path) {
    constexpr size_t kMaxExtension = 32;
    const std::string_view leaf = path.leaf();
    size_t dot = leaf.rfind('.');
    if (dot == 0 || dot == leaf.npos || leaf.size() - dot > kMaxExtension) dot = leaf.size();
    const std::string directory(path.str(), 0, path.str().size() - leaf.size());
    for (int number = 1;; ++number) {
      std::string tail = ".conflict-" + in_.conflict_tag;
      if (number > 1) tail += "-" + std::to_string(number);
      tail += leaf.substr(dot);
      if (tail.size() >= kMaxPartBytes) return std::nullopt;
      const std::string stem(leaf.substr(0, std::min(dot, kMaxPartBytes - tail.size())));
      const absl::StatusOr<RelPath> name =
          RelPath::Parse(std::string(directory).append(stem).append(tail));
      if (!name.ok()) return std::nullopt;
      if (!IsTaken(*name) && asides_.insert(name->str()).second) return *name;
    }
  }

  bool IsTaken(const RelPath& name) const {
    return in_.base.contains(name) || in_.host.files.contains(name) ||
           in_.remote.files.contains(name) || IsOdd(in_.host, name.str()) ||
           IsOdd(in_.remote, name.str());
  }

  static bool Deletes(const Action& action) { return action.verb == Verb::kTake && !action.remote; }

  // A sandbox that was emptied or made anew looks like one where everything was deleted.
  void GuardDeletions() {
    const auto count =
        static_cast<size_t>(std::count_if(actions_.begin(), actions_.end(), Deletes));
    const size_t most = std::max(kMaxDeletes, in_.base.size() * kMaxDeletesPercent / 100);
    const bool fits = count <= most && !in_.remote.files.empty();
    if (fits || in_.approve_deletes) return;
    for (Action& action : actions_) {
      if (Deletes(action)) action = Left(action, Why::kHeld);
    }
  }

  static Action Left(const Action& action, Why why) {
    return {action.path, Verb::kLeave, why, action.host, action.remote};
  }

  // The names that the host would have.
  std::unordered_set<std::string_view> HostAfter() const {
    std::unordered_set<std::string_view> names;
    for (const auto& [path, content] : in_.host.files) names.insert(path.str());
    for (const Action& action : actions_) {
      if (Deletes(action)) names.erase(action.path.str());
      if (action.verb == Verb::kTake && action.remote) names.insert(action.path.str());
      if (action.aside) names.insert(action.aside->str());
    }
    return names;
  }

  // The files that would have another file below them.
  std::unordered_set<std::string> Clashes() const {
    const std::unordered_set<std::string_view> names = HostAfter();
    std::unordered_set<std::string> clashes;
    for (const std::string_view name : names) {
      for (std::string_view up = Above(name); !up.empty(); up = Above(up)) {
        if (names.contains(up)) clashes.emplace(up);
      }
    }
    return clashes;
  }

  // All that is at and below a clash is left alone. True: something was, and as a deletion that is
  // not done brings its file back, there may be another clash now.
  bool LeaveClashes() {
    const std::unordered_set<std::string> clashes = Clashes();
    if (clashes.empty()) return false;
    const auto clashing = [&clashes](std::string_view name) {
      while (!name.empty() && !clashes.contains(std::string(name))) name = Above(name);
      return !name.empty();
    };
    bool changed = false;
    for (Action& action : actions_) {
      if (action.verb == Verb::kLeave || action.why == Why::kSame) continue;
      if (!clashing(action.path.str()) && !(action.aside && clashing(action.aside->str())))
        continue;
      action = Left(action, Why::kTree);
      changed = true;
    }
    return changed;
  }

  const PullInput& in_;
  std::vector<Action> actions_;
  std::unordered_set<std::string> asides_;
};

// Deletions to the front, deepest first: against the order by name.
template <typename T, typename IsDeletion>
void Order(std::vector<T>* changes, IsDeletion deletes) {
  std::sort(changes->begin(), changes->end(), [&deletes](const T& a, const T& b) {
    if (deletes(a) != deletes(b)) return deletes(a);
    return deletes(a) ? b.path < a.path : a.path < b.path;
  });
}

}  // namespace

std::vector<Action> PlanPull(const PullInput& input) {
  std::vector<Action> actions = Planner(input).Run();
  Order(&actions,
        [](const Action& action) { return action.verb == Verb::kTake && !action.remote; });
  return actions;
}

std::vector<RemoteChange> PlanPush(const Mount& mount, const IgnoreList& ignore,
                                   const FileMap& base, const Manifest& host) {
  std::vector<RemoteChange> changes;
  if (!mount.WritesRemote()) return changes;
  Merge merge({&base, &host.files});
  std::vector<MaybeContent> versions;
  while (const RelPath* path = merge.Next(&versions)) {
    if (versions[0] == versions[1]) continue;
    if (ignore.Ignores(path->str()) || IsOdd(host, path->str())) continue;
    changes.push_back({.path = *path, .expected = versions[0], .wanted = versions[1]});
  }
  Order(&changes, [](const RemoteChange& change) { return !change.wanted; });
  return changes;
}

std::map<std::string, Oddity> StaleOnFarSide(const Mount& mount, const IgnoreList& ignore,
                                             const FileMap& base, const Manifest& host) {
  std::map<std::string, Oddity> stale;
  if (!mount.WritesRemote() || host.oddities.empty()) return stale;
  for (const auto& [path, content] : base) {
    if (host.files.contains(path) || ignore.Ignores(path.str())) continue;
    if (const std::optional<Oddity> oddity = OddityAt(host, path.str()))
      stale.emplace(path.str(), *oddity);
  }
  return stale;
}

}  // namespace hermes::sync
