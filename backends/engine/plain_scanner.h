#pragma once

// Tells a command's bytes from the reader's marked lines in one output stream (plain_text.h). Pure;
// the stream is hostile: only who knows a mark can write a line.

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace hermes::plain {

// A line that is longer is none: its bytes are output, or noise.
inline constexpr size_t kMaxMarkedLine = 4096;
// Of what came before the start mark (a login shell's noise), this much is kept for error texts.
inline constexpr size_t kMaxNoise = 1024;

class Scanner {
 public:
  struct Sink {
    std::function<void(std::string_view)> started;  // the line after the start mark; once
    std::function<void(std::string_view)> data;
    std::function<void(std::string_view)> line;  // one after an end mark
  };
  // Everything before `start_mark` is noise; empty: nothing is.
  Scanner(std::string start_mark, std::string end_mark, Sink sink)
      : start_mark_(std::move(start_mark)),
        end_mark_(std::move(end_mark)),
        sink_(std::move(sink)),
        started_(start_mark_.empty()) {}

  void Feed(std::string_view bytes);
  // End of the stream: what could have become a mark is output.
  void Finish();

  // Before the start mark, the last of it.
  const std::string& noise() const { return noise_; }

 private:
  bool TakeStart();
  void TakeNoise(size_t bytes);
  bool TakeLine();
  void Deliver(size_t bytes);

  const std::string start_mark_;
  const std::string end_mark_;
  Sink sink_;
  bool started_;
  std::string pending_;
  std::string noise_;
};

}  // namespace hermes::plain
