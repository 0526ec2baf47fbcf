#include "backends/engine/plain_scanner.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backends/engine/plain_place.h"

namespace hermes::plain {
namespace {

constexpr std::string_view kStart = "\x1estart";
constexpr std::string_view kEnd =
    "\x1e"
    "end0123";

struct Seen {
  std::vector<std::string> started, lines;
  std::string data;
};

// Feeds `text` in pieces of `size`.
Seen Scan(std::string_view text, size_t size, bool finish = true) {
  Seen seen;
  Scanner scanner(std::string(kStart), std::string(kEnd),
                  {.started = [&](std::string_view line) { seen.started.emplace_back(line); },
                   .data = [&](std::string_view data) { seen.data.append(data); },
                   .line = [&](std::string_view line) { seen.lines.emplace_back(line); }});
  for (size_t at = 0; at < text.size(); at += size) scanner.Feed(text.substr(at, size));
  if (finish) scanner.Finish();
  return seen;
}

TEST(PlainScannerTest, TellsNoiseOutputAndLinesApartHoweverTheyAreCut) {
  const std::string text =
      "motd\n\x1estar\x1estart12\nout\x1e\x1e"
      "en\n\x1e"
      "end0123sAB\nlate\x1e"
      "end0123e0\nx";
  for (size_t size = 1; size <= text.size(); ++size) {
    Seen seen = Scan(text, size);
    EXPECT_EQ(seen.started, std::vector<std::string>{"12"});
    EXPECT_EQ(seen.data,
              "out\x1e\x1e"
              "en\nlatex")
        << size;
    EXPECT_EQ(seen.lines, (std::vector<std::string>{"sAB", "e0"})) << size;
  }
}

TEST(PlainScannerTest, HoldsNothingBackThatCannotBecomeAMark) {
  EXPECT_EQ(Scan("\x1estart1\nContinue? ", 4, false).data, "Continue? ");
  EXPECT_EQ(Scan("\x1estart1\nab\x1e"
                 "en",
                 100, false)
                .data,
            "ab");
  EXPECT_EQ(Scan("\x1estart1\nab\x1e"
                 "en",
                 100, true)
                .data,
            "ab\x1e"
            "en");
}

TEST(PlainScannerTest, ASecondStartMarkIsOutput) {
  EXPECT_EQ(Scan("\x1estart1\n\x1estart2\n", 3).data, "\x1estart2\n");
}

TEST(PlainScannerTest, ALineThatNeverEndsIsOutput) {
  const std::string text = "\x1estart1\n" + std::string(kEnd) + std::string(10'000, 'y');
  EXPECT_EQ(Scan(text, 1000).data, text.substr(8));
}

TEST(PlainScannerTest, AStartLineThatNeverEndsIsNoise) {
  const std::string endless = std::string(kStart) + std::string(10'000, 'y');
  for (const size_t size : {1, 1000, 20'000}) {
    EXPECT_TRUE(Scan(endless, size).started.empty());
    EXPECT_EQ(Scan(endless + "\x1estart7\nout", size).started, std::vector<std::string>{"7"});
    EXPECT_EQ(Scan(endless + "\x1estart7\nout", size).data, "out");
  }
}

TEST(PlainPlaceTest, DecodesWhatTheFarSideEncodes) {
  std::string capture;
  EXPECT_TRUE(AppendCapture("sYQBi/w==", &capture));
  EXPECT_TRUE(AppendCapture("h00ff0a", &capture));
  EXPECT_FALSE(AppendCapture("e0 0 0", &capture));
  EXPECT_EQ(capture, std::string("a\0b\xff\0\xff\n", 7));
}

}  // namespace
}  // namespace hermes::plain
