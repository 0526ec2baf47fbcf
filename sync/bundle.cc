#include "sync/bundle.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "daemon/runtime/child.h"
#include "daemon/runtime/status.h"
#include "daemon/runtime/task_group.h"
#include "sync/quarantine.h"
#include "sync/record_checker.h"

namespace hermes::sync {
namespace {

constexpr size_t kReadBytes = 256 << 10;

unpack::Request RequestOf(const BundleSpec& spec) {
  const auto wanted = static_cast<uint32_t>(spec.wanted.size());
  unpack::Request request{.max_total_bytes = spec.max_total_bytes,
                          .max_members = std::max(spec.max_members, wanted),
                          .salvage = spec.salvage};
  request.wanted.reserve(spec.wanted.size());
  for (const WantedFile& file : spec.wanted) {
    request.wanted.push_back({file.path.str(), file.max_bytes});
  }
  return request;
}

}  // namespace

// Two flows, the stream into the program and its records out of it; whichever ends early ends the
// other.
class Bundle::Receiver {
 public:
  Receiver(Loop& loop, Clock& clock, Workers& workers, BundleSpec spec)
      : loop_(loop),
        clock_(clock),
        workers_(workers),
        spec_(std::move(spec)),
        request_(RequestOf(spec_)),
        stage_(*spec_.fs, spec_.stage, spec_.first_slot),
        checker_(request_, stage_),
        quarantine_(spec_.quarantine_fd, spec_.max_quarantine_bytes),
        in_(loop.context()),
        out_(loop.context()),
        err_(loop.context()),
        tasks_(loop) {}

  absl::Status Start() {
    Child::Pipes pipes;
    absl::StatusOr<std::unique_ptr<Child>> child =
        Child::Spawn(loop_, {.argv = {spec_.program}, .environment = {}, .cwd = "/"}, &pipes);
    if (!child.ok()) return Error(Reason::k_SYNC_FAILED, std::string(child.status().message()));
    child_ = *std::move(child);
    in_.assign(pipes.stdin_fd);
    out_.assign(pipes.stdout_fd);
    err_.assign(pipes.stderr_fd);  // never read: it has nothing to say there
    unpack::Encode(unsent_request_, request_);
    ShowLife();
    tasks_.Spawn("sync.bundle.records", ReadRecords());
    return absl::OkStatus();
  }

  Task<absl::Status> Feed(std::string_view bytes) {
    co_await SendRequest();
    if (!stopped_) {
      ShowLife();
      co_await workers_.Run([this, bytes] {
        quarantine_.Append(bytes);
        return true;
      });
      co_await Send(bytes);
    }
    if (stopped_) co_return Error(Reason::k_SYNC_FAILED, "no more of this stream is wanted");
    co_return absl::OkStatus();
  }

  Task<absl::StatusOr<BundleResult>> Finish(absl::Status stream) {
    co_await SendRequest();
    // What we ended ourselves is no fault of the stream's.
    if (!stopped_) stream_failure_ = std::move(stream);
    asio::error_code ignored;
    in_.close(ignored);
    co_await tasks_.Join();
    exit_ = co_await child_->Wait();
    idle_.reset();
    co_return co_await workers_.Run([this] { return Conclude(); });
  }

 private:
  // Called at each byte in or out.
  void ShowLife() {
    idle_ = clock_.At(clock_.Now() + spec_.max_idle, [this] {
      stood_still_ = true;
      Kill();
    });
  }

  void Kill() {
    if (!killed_) child_->SignalGroup(SIGKILL);
    killed_ = true;
    Stop();
  }

  void Stop() {
    if (!std::exchange(stopped_, true) && spec_.on_stopped) spec_.on_stopped();
  }

  Task<void> SendRequest() {
    const std::string request = std::exchange(unsent_request_, {});
    if (!request.empty()) co_await Send(request);
  }

  // A program that has ended reads no more: its records say why.
  Task<void> Send(std::string_view bytes) {
    asio::error_code error;
    co_await asio::async_write(in_, asio::buffer(bytes.data(), bytes.size()),
                               asio::redirect_error(asio::use_awaitable, error));
    if (!error) ShowLife();
  }

  Task<void> ReadRecords() {
    std::string buffer(kReadBytes, '\0');
    for (;;) {
      asio::error_code error;
      const size_t got = co_await out_.async_read_some(
          asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      ShowLife();
      std::string_view records = std::string_view(buffer).substr(0, got);
      sink_failure_ = co_await workers_.Run([this, records] { return checker_.Consume(records); });
      if (!sink_failure_.ok() || checker_.broken()) {
        Kill();
        break;
      }
      if (spec_.on_progress) spec_.on_progress(checker_.files(), checker_.bytes());
    }
    Stop();  // whatever the reason: what still comes is of no use
  }

  // On a worker: it removes files.
  absl::StatusOr<BundleResult> Conclude() {
    BundleResult result{.oddities = checker_.oddities(),
                        .missing = checker_.Missing(),
                        .lies = checker_.lies(),
                        .confinement = checker_.hello().value_or(unpack::Hello{})};
    const bool crashed = !killed_ && (exit_.signalled || exit_.value != 0 || !checker_.end());
    const bool broken = crashed || checker_.broken();
    if (broken) result.lies.push_back({unpack::LieKind::kParserBroken, {}});
    if (!result.lies.empty()) {
      result.quarantined = quarantine_.Keep(spec_.quarantine_name);
      const bool failed = !sink_failure_.ok() || stood_still_;
      if (broken || !spec_.salvage || failed) stage_.RemoveAll();
      stage_.RemovePartial();
      if (spec_.salvage && failed) return Failure();
    } else if (absl::Status failure = Failure(); !failure.ok()) {
      const bool cut = sink_failure_.ok() && !stood_still_ && !stream_failure_.ok();
      if (!cut || !spec_.keep_whole) {
        stage_.RemoveAll();
        return failure;
      }
      stage_.RemovePartial();
      result.broke = std::move(failure);
    }
    result.staged = stage_.staged();
    return result;
  }

  absl::Status Failure() const {
    if (!sink_failure_.ok()) return sink_failure_;
    if (stood_still_) return Error(Reason::k_SYNC_FAILED, "hermes-unpack stood still");
    if (!stream_failure_.ok()) return stream_failure_;
    switch (checker_.end()->how) {
      case unpack::End::How::kComplete:
        return absl::OkStatus();
      case unpack::End::How::kNotArchive:
        return Error(Reason::k_SYNC_FAILED, "the place sent something else than an archive");
      default:
        return Error(Reason::k_SYNC_FAILED, "the archive of files was cut off on its way");
    }
  }

  using Pipe = asio::posix::stream_descriptor;

  Loop& loop_;
  Clock& clock_;
  Workers& workers_;
  const BundleSpec spec_;
  const unpack::Request request_;
  StageFiles stage_;       // worker
  RecordChecker checker_;  // worker while Consume is under way
  Quarantine quarantine_;  // worker
  Pipe in_;
  Pipe out_;
  Pipe err_;
  TaskGroup tasks_;
  std::unique_ptr<Child> child_;
  std::unique_ptr<Clock::Alarm> idle_;
  Child::ExitStatus exit_;
  absl::Status stream_failure_;
  absl::Status sink_failure_;
  std::string unsent_request_;
  bool stopped_ = false;
  bool killed_ = false;
  bool stood_still_ = false;
};

absl::StatusOr<std::unique_ptr<Bundle>> Bundle::Start(Loop& loop, Clock& clock, Workers& workers,
                                                      BundleSpec spec) {
  auto receiver = std::make_unique<Receiver>(loop, clock, workers, std::move(spec));
  RETURN_IF_ERROR(receiver->Start());
  return std::unique_ptr<Bundle>(new Bundle(std::move(receiver)));
}

Bundle::Bundle(std::unique_ptr<Receiver> receiver) : receiver_(std::move(receiver)) {}

Bundle::~Bundle() = default;

Task<absl::Status> Bundle::Feed(std::string_view bytes) { return receiver_->Feed(bytes); }

Task<absl::StatusOr<BundleResult>> Bundle::Finish(absl::Status stream) {
  return receiver_->Finish(std::move(stream));
}

std::string FindUnpack() {
  std::error_code failed;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) return {};
  for (const char* place : {"hermes-unpack", "../libexec/hermesd/hermes-unpack"}) {
    std::filesystem::path program = (self.parent_path() / place).lexically_normal();
    if (std::filesystem::exists(program, failed)) return program;
  }
  return {};
}

std::string DescribeConfinement(const unpack::Hello& hello) {
  std::string text;
  auto add = [&](uint32_t layer, std::string_view name) {
    if ((hello.layers & layer) == 0) return;
    if (!text.empty()) text += ", ";
    text += name;
  };
  add(unpack::kNoNewPrivileges, "no new privileges");
  add(unpack::kNotDumpable, "not dumpable");
  add(unpack::kLimits, "limits");
  add(unpack::kLandlock, "landlock " + std::to_string(hello.landlock_abi));
  add(unpack::kSeccomp, "seccomp");
  return text.empty() ? "none" : text;
}

}  // namespace hermes::sync
