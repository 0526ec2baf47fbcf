// A link that sends anything: the runner ends that link, or refuses, and serves the next one.

#include <algorithm>
#include <random>

#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

constexpr int kPlays = 300;
constexpr int kPlaysUntilChecked = 50;
constexpr uint32_t kNumber = 1;  // of the one command that the frames are about
constexpr uint32_t kFirstGood = 1000;

std::string Scalars(Type type, const std::function<void(frames::Writer&)>& fill) {
  std::string bytes;
  frames::Writer writer(bytes);
  writer.Begin(type, kNumber);
  fill(writer);
  writer.End();
  return bytes;
}

// One of each frame that a daemon sends. No shell text is in them: what is mutated must not run.
std::vector<std::string> GoodFrames() {
  std::vector<std::string> all(2);
  frames::Encode(all[0], kNumber, frames::Open{"h", "/tmp", {{"A", "1"}}, 0});
  frames::Start start;
  start.session = "h";
  start.run_id = NewRunId();
  start.form = frames::Form::kArgv;
  start.argv = {"true"};
  start.env = {{"B", "2"}};
  start.stdin_kind = frames::StdinKind::kOpen;
  frames::Encode(all[1], kNumber, start);
  all.emplace_back();
  frames::EncodeData(all.back(), kNumber, Type::kStdin, 0, "input");
  const auto add = [&all](Type type, const std::function<void(frames::Writer&)>& fill) {
    all.push_back(Scalars(type, fill));
  };
  add(Type::kStdinEof, [](frames::Writer& w) { w.U64(5); });
  add(Type::kResize, [](frames::Writer& w) { w.U32(0x00180050); });
  add(Type::kAttach, [](frames::Writer& w) { w.Raw(std::string(16, '\0')); });
  add(Type::kAck, [](frames::Writer& w) { w.Raw(std::string(16, '\0')); });
  add(Type::kList, [](frames::Writer&) {});
  add(Type::kPing, [](frames::Writer& w) { w.U64(7); });
  add(Type::kForgetRun, [](frames::Writer& w) { w.Str(NewRunId()); });
  add(Type::kForget, [](frames::Writer&) {});
  for (const Type type : {Type::kClose, Type::kLease, Type::kSecret}) {
    add(type, [type](frames::Writer& w) {
      w.Str("h");
      type == Type::kSecret ? w.Str("sesame") : w.U32(1);
    });
  }
  const auto kill = [](frames::Writer& w) {
    w.U32(0);
    w.U8(static_cast<uint8_t>(frames::Cause::kCancelled));
  };
  add(Type::kKill, kill);
  return all;
}

class HostileTest : public RunnerTest {
 protected:
  size_t Below(size_t bound) { return random_() % bound; }

  void Mutate(std::string& bytes) {
    for (size_t changes = Below(4); changes > 0 && !bytes.empty(); --changes) {
      const size_t at = Below(bytes.size());
      switch (Below(5)) {
        case 0:
          bytes[at] = static_cast<char>(random_());
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << Below(8)));
          break;
        case 2:
          bytes.erase(at, 1 + Below(8));
          break;
        case 3:
          bytes.insert(at, std::string(1 + Below(300), static_cast<char>(random_())));
          break;
        default:
          std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at),
                      std::min<size_t>(4, bytes.size() - at), '\xff');
      }
    }
  }

  // Frames in any order, some of them damaged, over a link of their own.
  void Play() {
    Client hostile(directory);
    ASSERT_TRUE(hostile.connected());
    if (Below(8) != 0) ASSERT_TRUE(hostile.Hello());
    const std::vector<std::string> good = GoodFrames();
    std::string bytes;
    for (size_t frames = 1 + Below(12); frames > 0; --frames) {
      std::string frame = good[Below(3) == 0 ? Below(2) : Below(good.size())];
      if (Below(2) == 0) Mutate(frame);
      bytes += frame;
    }
    hostile.SendRaw(bytes);
  }

  // Not by Finish: what is told of the commands of earlier links is not of interest.
  std::string Out(const frames::Start& start) {
    const uint32_t number = client->Start(start);
    while (!client->results[number].drained) {
      const std::optional<Message> message = client->Next();
      if (!message) return "(no answer)";
      if (message->command == number) client->Record(*message);
    }
    return client->results[number].out;
  }

  std::mt19937 random_{20'261'120};
};

TEST_F(HostileTest, WhateverALinkSendsTheNextOneIsServed) {
  OpenSession("good");
  const std::string token = start_token;
  client->next_command = kFirstGood;
  for (int play = 1; play <= kPlays; ++play) {
    Play();
    if (play % kPlaysUntilChecked != 0) continue;
    Connect();
    ASSERT_EQ(start_token, token) << "another runner answers after play " << play;
    EXPECT_EQ(Out(Shell("echo on", "good")), "on\n") << "after play " << play;
  }
}

}  // namespace
}  // namespace hermes::test
