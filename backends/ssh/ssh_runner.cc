#include "backends/ssh/ssh_runner.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <openssl/sha.h>

#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes::ssh {
namespace {

constexpr size_t kMaxShownNoise = 400;  // bytes of what a login shell said, in an error

// What to do next, for who opened the session; at most 256 bytes.
constexpr char kMendAccount[] =
    "See what `ssh HOST 'echo ok'` says: ok, and nothing else, is right. The account needs a login "
    "shell that runs commands (no nologin, no forced command), and start files that neither "
    "wait nor exit.";
constexpr char kMakeRoom[] =
    "Give it room in ~/.cache, /var/tmp, /tmp, /dev/shm or $XDG_RUNTIME_DIR there, on a disk that "
    "is not mounted noexec, or open the session without hermes-runner: --runner never.";
constexpr char kGoWithout[] = "Open the session without hermes-runner: --runner never.";

absl::Status Missing(const std::string& what, const char* next) {
  return Error(Reason::k_CAPABILITY_MISSING, what, {{std::string(kNextKey), next}});
}

Program ProgramOf(std::span<const char> image) {
  if (image.empty()) return {};
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(image.data()), image.size(), digest.data());
  constexpr std::string_view kHex = "0123456789abcdef";
  Program program{.sha256 = "", .bytes = image.size()};
  for (const unsigned char byte : digest) {
    program.sha256 += kHex[byte >> 4];
    program.sha256 += kHex[byte & 15];
  }
  return program;
}

// The link's first bytes may have come with our last line.
class WithHead : public Stream {
 public:
  WithHead(std::string head, std::unique_ptr<Stream> inner)
      : head_(std::move(head)), inner_(std::move(inner)) {}
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    if (head_.empty()) co_return co_await inner_->ReadStdout(into);
    const size_t bytes = std::min(into.size(), head_.size());
    std::copy_n(head_.begin(), bytes, into.begin());
    head_.erase(0, bytes);
    co_return bytes;
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return inner_->ReadStderr(into);
  }
  Task<absl::Status> Write(std::string_view data) override { return inner_->Write(data); }
  void CloseStdin() override { inner_->CloseStdin(); }
  void Abort() override { inner_->Abort(); }
  Task<std::optional<End>> WaitEnd() override { return inner_->WaitEnd(); }

 private:
  std::string head_;
  std::unique_ptr<Stream> inner_;
};

struct Conversation {
  std::unique_ptr<Stream> stream;
  Programs programs;
  std::string nonce;
  std::string unread;  // after the last line taken
  size_t taken = 0;    // bytes of lines that were not ours
  std::string noise;   // the beginning of them
  PlaceAnswer place;
  bool uploaded = false;
  Duration limit{0};
  bool expired = false;
};

absl::Status GivenUp() { return Error(Reason::k_RECONNECTING, "nobody waits for it any more"); }

absl::Status NoAnswer(const Conversation& talk, const std::optional<Stream::End>& end) {
  std::string what = "the login shell did not run our command";
  if (talk.expired) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(talk.limit).count();
    what += " within " + std::to_string(seconds) +
            " s: start files that are slow or wait, or a forced command";
  }
  if (end && !end->signalled) what += " (it ended with " + std::to_string(end->value) + ")";
  std::string said = talk.noise + talk.unread.substr(0, kMaxShownNoise);
  for (char& c : said) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = ' ';
  }
  const size_t first = said.find_first_not_of(' ');
  what += first == std::string::npos ? "; it said nothing"
                                     : "; it said: " + said.substr(first, kMaxShownNoise);
  return Missing(what, kMendAccount);
}

// The next line of stdout; an error at its end.
Task<absl::StatusOr<std::string>> NextLine(std::shared_ptr<Conversation> talk) {
  std::vector<char> buffer(16 << 10);
  for (;;) {
    const size_t newline = talk->unread.find('\n');
    if (newline != std::string::npos) {
      std::string line = talk->unread.substr(0, newline);
      talk->unread.erase(0, newline + 1);
      co_return line;
    }
    if (talk->taken + talk->unread.size() > kMaxNoise) co_return NoAnswer(*talk, std::nullopt);
    CO_ASSIGN_OR_RETURN(size_t bytes, co_await talk->stream->ReadStdout(buffer));
    if (bytes == 0) co_return NoAnswer(*talk, co_await talk->stream->WaitEnd());
    talk->unread.append(buffer.data(), bytes);
  }
}

// Of the machine that the host says it is; empty: there is none.
std::span<const char> ImageFor(const Conversation& talk) {
  const std::string& arch = talk.place.arch;
  if (arch == "aarch64" || arch == "arm64") return talk.programs.aarch64;
  if (arch == "x86_64" || arch == "amd64") return talk.programs.x86_64;
  return {};
}

void NoteNoise(Conversation& talk, const std::string& line) {
  talk.taken += line.size() + 1;
  if (talk.noise.size() < kMaxShownNoise) talk.noise += line.substr(0, kMaxShownNoise) + " ";
}

Task<absl::Status> AwaitAnswer(std::shared_ptr<Conversation> talk) {
  for (;;) {
    CO_ASSIGN_OR_RETURN(std::string line, co_await NextLine(talk));
    if (std::optional<PlaceAnswer> answer = ParsePlaceAnswer(line, talk->nonce)) {
      talk->place = *std::move(answer);
      break;
    }
    NoteNoise(*talk, line);
  }
  const bool ours = talk->place.os == "Linux" && !ImageFor(*talk).empty();
  if (talk->place.verdict == PlaceAnswer::Verdict::kNone) {
    co_return Missing(talk->place.text, ours ? kMakeRoom : kGoWithout);
  }
  if (talk->place.verdict == PlaceAnswer::Verdict::kPut && !ours) {
    co_return Missing("the host asks for a program that it was not offered", kGoWithout);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Put(std::shared_ptr<Conversation> talk) {
  const std::span<const char> image = ImageFor(*talk);
  // A host that stopped taking it, for want of room, still says so.
  const absl::Status written = co_await talk->stream->Write({image.data(), image.size()});
  for (;;) {
    absl::StatusOr<std::string> line = co_await NextLine(talk);
    if (!line.ok()) co_return written.ok() ? line.status() : written;
    std::optional<bool> stored = ParsePutAnswer(*line, talk->nonce);
    if (stored == true) break;
    if (stored == false) {
      co_return Missing("hermes-runner could not be stored undamaged below " + talk->place.text +
                            ": is the disk full?",
                        kMakeRoom);
    }
    NoteNoise(*talk, *line);
  }
  talk->uploaded = true;
  co_return absl::OkStatus();
}

}  // namespace

PlaceQuestion QuestionFor(const Programs& programs, std::string directory, std::string nonce) {
  return {.directory = std::move(directory),
          .nonce = std::move(nonce),
          .x86_64 = ProgramOf(programs.x86_64),
          .aarch64 = ProgramOf(programs.aarch64)};
}

Task<absl::StatusOr<FarRunner>> AwaitRunner(Clock& clock, std::unique_ptr<Stream> stream,
                                            RunnerWait wait) {
  auto talk = std::make_shared<Conversation>();
  talk->stream = std::move(stream);
  talk->programs = wait.programs;
  talk->nonce = std::move(wait.nonce);
  talk->limit = wait.limit;
  const auto stop = [talk] { talk->stream->Abort(); };
  const Wish::Ear ear(wait.wish, stop);
  bool expired = false;
  absl::Status status =
      co_await WithDeadline(clock, clock.Now() + wait.limit, AwaitAnswer(talk), stop, &expired);
  talk->expired = expired;
  if (IsWithdrawn(wait.wish)) co_return GivenUp();
  if (expired) co_return NoAnswer(*talk, std::nullopt);
  CO_RETURN_IF_ERROR(status);
  if (talk->place.verdict == PlaceAnswer::Verdict::kPut) {
    status = co_await WithDeadline(clock, clock.Now() + kPutLimit, Put(talk), stop, &expired);
    if (IsWithdrawn(wait.wish)) co_return GivenUp();
    if (expired) {
      co_return Error(Reason::k_BACKEND_UNREACHABLE,
                      "sending hermes-runner to the host took longer than " +
                          std::to_string(kPutLimit / std::chrono::seconds(1)) + " s",
                      {{std::string(kNextKey), kGoWithout}});
    }
    CO_RETURN_IF_ERROR(status);
  }
  FarRunner far{std::move(talk->stream), std::move(talk->place), talk->uploaded};
  if (!talk->unread.empty()) {
    far.stream = std::make_unique<WithHead>(std::move(talk->unread), std::move(far.stream));
  }
  co_return far;
}

}  // namespace hermes::ssh
