#pragma once

// FarAnswer: reads what the far end of a mount answers, at both tool levels, and believes nothing
// of it. Pure: fed piece by piece, bounded, and one break of the rules is final. Behind any amount
// of noise of a login shell (up to kMaxFarNoise), where <mark> is a text that only this question's
// far end knows:
//
//   <mark> h <level A|B> <exists 0|1> <epoch in hex, or ->\n
//   of a look:   d <64 hex>\n                        the manifest's digest; may be left out if it
//                                                   is the expected one
//                m <bytes>\n<canonical text>         only if the digest is not the expected one
//                s <bytes>\n<sizes>                  decimal, a line each, in the text's order
//                o <letter>\n<name>\0...<name>\0\0   for a kind of oddity; "./" may go before a
//                name
//                  n odd name, l link, s special, u unreadable, b too big, x other file system
//   of an apply: p <index>\n  c <index>\n  f <index>\n  placed, conflict, failed: in any order
//                P\n                                 each that is not told otherwise is placed
//   of both:     t <bytes>\n<text>                   what a tool said, for people
//                <mark> e\n                          the end; what follows is not read
//   of a fetch:  the stream itself, until its end
//   instead, at any place but within a fetch:
//                <mark> x <word> <text>\n            it cannot be done

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sync/remote_tree.h"

namespace hermes::sync {

inline constexpr size_t kMaxFarNoise = 256 << 10;  // before the mark; more: SYNC_FAILED
inline constexpr size_t kMaxFarLine = 4096;        // of a line in the answer; longer: SYNC_FAILED
inline constexpr size_t kMaxFarText = 64 << 10;    // of one `t`, and of what is kept of all
inline constexpr size_t kMaxFarOddities = 200'000;
// Of names: twice the longest, on average far less. More in all, or for one file: SYNC_FAILED.
inline constexpr size_t kMaxFarOddBytes = 32 << 20;
inline constexpr size_t kMaxFarBytesPerFile = 8 << 10;
// Of a list of files and of their sizes, however many files there may be: two such texts are held.
inline constexpr uint64_t kMaxFarListBytes = 64 << 20;
inline constexpr size_t kMaxFarLines = 10'000;  // but for those of changes

enum class FarVerb { kLook, kApply, kFetch };

class FarAnswer {
 public:
  struct Question {
    FarVerb verb = FarVerb::kLook;
    std::string mark;
    size_t changes = 0;    // of an apply
    size_t max_files = 0;  // of a look: more in the manifest is SYNC_FAILED
  };
  explicit FarAnswer(Question question) : question_(std::move(question)) {}

  // The next bytes. Of a fetch, those of the stream itself are put into `*stream` (into `bytes`).
  // SYNC_FAILED, CAPABILITY_MISSING, DISK_FULL: what the far end says, or it says nonsense.
  absl::Status Feed(std::string_view bytes, std::string_view* stream = nullptr);

  // The end was read: nothing more is wanted. Never true of a fetch.
  bool done() const { return state_ == State::kDone; }
  // Of a fetch: the head was read, so what Feed gives is the stream.
  bool streaming() const { return state_ == State::kStream; }

  // At the stream's end, or once done. BACKEND_UNREACHABLE: it was cut short; says what came
  // instead of an answer.
  absl::Status Finish() const;

  // After Finish was OK; once. SYNC_FAILED: the manifest is none, or not that of its digest.
  absl::StatusOr<RemoteLook> TakeLook(std::optional<Digest> expected);
  RemoteApplied TakeApplied();

  const std::string& mark() const { return question_.mark; }

  // What tools said: bytes of anybody, to be escaped where they are shown.
  const std::string& text() const { return text_; }

 private:
  enum class State { kNoise, kLines, kBlock, kNames, kStream, kDone, kBroken };

  absl::Status Broken(std::string_view what);
  absl::Status Advance(bool* progress);
  absl::Status FindHead(bool* progress);
  absl::Status TakeHead(std::string_view line);
  absl::Status TakeLine(std::string_view line);
  absl::Status TakeMarked(std::string_view rest);
  absl::Status TakeTrouble(std::string_view rest);
  absl::Status TakeDigest(std::string_view rest);
  absl::Status BeginBlock(char kind, std::string_view size);
  absl::Status BeginNames(std::string_view letter);
  absl::Status TakePlace(char kind, std::string_view rest);
  absl::Status TakeBlock(bool* progress);
  absl::Status TakeName(bool* progress);
  absl::Status TakeEnd();
  absl::StatusOr<FileMap> Files() const;

  const Question question_;
  State state_ = State::kNoise;
  size_t lines_ = 0;
  std::string rest_;  // not yet understood; bounded by the largest thing that is expected
  size_t at_ = 0;     // of it is understood

  RemoteLook look_;
  bool has_digest_ = false;
  std::optional<std::string> manifest_;
  std::optional<std::string> sizes_;
  std::string text_;
  char block_ = 0;  // whose bytes come: m, s or t
  uint64_t left_ = 0;
  Oddity oddity_ = Oddity::kName;
  size_t odd_bytes_ = 0;
  std::vector<std::optional<Placed>> placed_;
  bool others_placed_ = false;
};

}  // namespace hermes::sync
