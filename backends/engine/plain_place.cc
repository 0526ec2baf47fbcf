#include "backends/engine/plain_place.h"

#include <array>
#include <charconv>
#include <span>
#include <utility>

#include "backends/engine/plain_scanner.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes::plain {
namespace {

constexpr size_t kPieceBytes = 16 << 10;

struct Asking {
  std::unique_ptr<Stream> stream;
  Place::Answer answer;
};

Task<absl::Status> Talk(std::shared_ptr<Asking> asking, std::string framed, std::string mark) {
  const absl::Status written = co_await asking->stream->Write(framed);
  // A shell that ended before it took all may have said why.
  if (!written.ok() && written.code() != absl::StatusCode::kUnavailable) co_return written;
  asking->stream->CloseStdin();
  Place::Answer& answer = asking->answer;
  Scanner scanner("", std::move(mark),
                  {.started = nullptr,
                   .data = [&answer](std::string_view data) { answer.noise.append(data); },
                   .line =
                       [&answer](std::string_view line) {
                         if (line.starts_with('e')) answer.complete = true;
                         answer.lines.emplace_back(line);
                       }});
  std::array<char, kPieceBytes> piece;
  for (size_t total = 0; !answer.complete;) {
    CO_ASSIGN_OR_RETURN(size_t bytes, co_await asking->stream->ReadStdout(piece));
    if (bytes == 0) break;
    total += bytes;
    if (total > kMaxAnswerBytes)
      co_return Error(Reason::k_BACKEND_UNREACHABLE, "too much was told");
    scanner.Feed(std::string_view(piece.data(), bytes));
    if (answer.noise.size() > kMaxNoise) answer.noise.resize(kMaxNoise);
  }
  co_return absl::OkStatus();
}

int Base64Value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

Task<absl::StatusOr<Place::Answer>> Place::Ask(std::shared_ptr<Place> self, shell::Kind kind,
                                               std::string text, std::string mark, Duration limit,
                                               WishPtr wish) {
  auto asking = std::make_shared<Asking>();
  CO_ASSIGN_OR_RETURN(asking->stream, co_await self->sandbox->OpenStream(
                                          std::string(BootLine(kind)), Lane::kControl, wish));
  bool expired = false;
  absl::Status status = co_await WithDeadline(
      self->clock, self->clock.Now() + limit, Talk(asking, Framed(text), std::move(mark)),
      [asking] { asking->stream->Abort(); }, &expired);
  asking->answer.expired = expired && !asking->answer.complete;
  if (expired) co_return std::move(asking->answer);
  // A shell that is not there may have ended before it took all of the text: that is an answer.
  if (!status.ok() && status.code() != absl::StatusCode::kUnavailable) co_return status;
  co_return std::move(asking->answer);
}

Task<absl::StatusOr<Place::Answer>> Place::AskSoon(std::shared_ptr<Place> self, std::string text,
                                                   std::string mark, Duration limit) {
  auto wish = std::make_shared<Wish>();
  const auto alarm = self->clock.At(self->clock.Now() + limit, [wish] { wish->Withdraw(); });
  absl::StatusOr<Answer> answer =
      co_await Ask(self, self->far.kind, std::move(text), std::move(mark), limit, wish);
  if (answer.ok() ? answer->expired : wish->withdrawn()) {
    co_return Error(Reason::k_BACKEND_UNREACHABLE, "the place did not answer in time");
  }
  co_return answer;
}

Task<absl::StatusOr<TreeReport>> Place::Kill(std::shared_ptr<Place> self, LadderSpec spec) {
  const std::string mark = self->NewMark();
  const Duration limit = kAnswerLimit + std::chrono::milliseconds(spec.grace_ms);
  CO_ASSIGN_OR_RETURN(Answer answer, co_await AskSoon(self, KillText(mark, spec), mark, limit));
  TreeReport report;
  report.method = KillMethod::kGroupAndCookie;
  for (const std::string& line : answer.lines) {
    if (!line.starts_with('k')) continue;
    const char* at = line.data() + 1;
    const char* end = line.data() + line.size();
    std::vector<int32_t> numbers;
    for (int32_t number = 0; at < end;) {
      auto [next, error] = std::from_chars(at, end, number);
      if (error != std::errc()) break;
      numbers.push_back(number);
      at = next < end ? next + 1 : next;
    }
    if (numbers.size() < 2) break;
    report.signalled = static_cast<uint32_t>(numbers[0]);
    report.survivors = static_cast<uint32_t>(numbers[1]);
    report.survivor_pids.assign(numbers.begin() + 2, numbers.end());
    co_return report;
  }
  co_return Error(Reason::k_BACKEND_UNREACHABLE, "the place did not say what became of the kill");
}

std::string FromBase64(std::string_view text) {
  std::string bytes;
  uint32_t bits = 0;
  int held = 0;
  for (char c : text) {
    const int value = Base64Value(c);
    if (value < 0) break;
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes.push_back(static_cast<char>(bits >> held & 0xff));
  }
  return bytes;
}

std::string FromHex(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    const int high = HexValue(text[i]), low = HexValue(text[i + 1]);
    if (high < 0 || low < 0) break;
    bytes.push_back(static_cast<char>(high << 4 | low));
  }
  return bytes;
}

bool AppendCapture(std::string_view line, std::string* capture) {
  if (line.starts_with('s')) {
    *capture += FromBase64(line.substr(1));
  } else if (line.starts_with('h')) {
    *capture += FromHex(line.substr(1));
  } else {
    return false;
  }
  return true;
}

}  // namespace hermes::plain
