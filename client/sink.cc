#include "client/sink.h"

#include <unistd.h>

#include <algorithm>

#include "client/outcome.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {
namespace {

// What `-o json` keeps of each stream. The rest is counted in a gap of the document, so that a
// chatty command cannot fill our memory.
constexpr size_t kMaxCollectedBytes = size_t{256} << 20;

// A reader that is always too slow meets gap after gap; so many are told one by one.
constexpr uint64_t kNamedGaps = 8;

// On other files than the host's: no progress, so scripts are told, too.
bool WarnOfConflict(const v1::Phase& phase) {
  if (phase.name() != "conflict") return false;
  Say("warning: " + ForTerminal(phase.detail()));
  return true;
}

class PassThrough : public EventSink {
 public:
  bool OnOutput(const v1::Output& output) override {
    int fd = output.channel() == v1::STDERR ? STDERR_FILENO : STDOUT_FILENO;
    WriteResult result = WriteAll(fd, output.data());
    if (result == WriteResult::kFailed) Say("output could not be written");
    return result == WriteResult::kOk;
  }

  void OnGap(const v1::Gap& gap) override {
    if (++gaps_ <= kNamedGaps) {
      Say(ForTerminal(DescribeGap(gap)));
    } else {
      unnamed_bytes_ += gap.to_offset() - gap.from_offset();
    }
    // Bytes that were lost are no matter of the limit.
    if (gaps_ == 1 && gap.reason() != "lost") {
      Say("a larger --output-limit of exec keeps more for a slow reader");
    }
  }

  bool OnFinished(const v1::Command& command) override {
    if (gaps_ > kNamedGaps) {
      Say(std::to_string(gaps_ - kNamedGaps) + " more gaps, " + std::to_string(unnamed_bytes_) +
          " bytes; -o jsonl names each");
    }
    return true;
  }

  void OnPhase(const v1::Phase& phase) override {
    // Progress is for people; scripts get the command's own stderr only.
    if (WarnOfConflict(phase) || !isatty(STDERR_FILENO) || phase.name() == "launching") return;
    Say(ForTerminal(phase.name() + (phase.detail().empty() ? "" : ": " + phase.detail())));
  }

 private:
  uint64_t gaps_ = 0;
  uint64_t unnamed_bytes_ = 0;
};

class Document : public EventSink {
 public:
  bool OnOutput(const v1::Output& output) override {
    std::string& kept =
        output.channel() == v1::STDERR ? record_.stderr_bytes : record_.stdout_bytes;
    size_t take = std::min(output.data().size(), kMaxCollectedBytes - kept.size());
    kept.append(output.data(), 0, take);
    if (take < output.data().size()) NoteCut(output, take);
    return true;
  }

  void OnGap(const v1::Gap& gap) override { record_.gaps.push_back(gap); }
  void OnPhase(const v1::Phase& phase) override { WarnOfConflict(phase); }

  bool OnFinished(const v1::Command& command) override {
    record_.command = command;
    return WriteAll(STDOUT_FILENO, ToJson(record_, JsonStyle::kIndented)) == WriteResult::kOk;
  }

 private:
  // Consecutive cuts of one stream grow one gap.
  void NoteCut(const v1::Output& output, size_t taken) {
    uint64_t end = output.offset() + output.data().size();
    for (v1::Gap& gap : record_.gaps) {
      if (gap.channel() == output.channel() && gap.to_offset() == output.offset() + taken) {
        gap.set_to_offset(end);
        return;
      }
    }
    v1::Gap& gap = record_.gaps.emplace_back();
    gap.set_channel(output.channel());
    gap.set_from_offset(output.offset() + taken);
    gap.set_to_offset(end);
    gap.set_reason("too long for one document; see hermesctl logs");
  }

  ExecRecord record_;
};

class Lines : public EventSink {
 public:
  void OnStarted(const v1::Started& started) override { Write("started", started); }
  bool OnOutput(const v1::Output& output) override { return Write("output", output); }
  void OnGap(const v1::Gap& gap) override { Write("gap", gap); }
  void OnPhase(const v1::Phase& phase) override { Write("phase", phase); }
  bool OnFinished(const v1::Command& command) override { return Write("finished", command); }

 private:
  static bool Write(const std::string& event, const google::protobuf::Message& fields) {
    return WriteAll(STDOUT_FILENO, EventLine(event, fields)) == WriteResult::kOk;
  }
};

}  // namespace

std::unique_ptr<EventSink> MakeSink(Format format) {
  switch (format) {
    case Format::kJson:
      return std::make_unique<Document>();
    case Format::kJsonLines:
      return std::make_unique<Lines>();
    case Format::kTable:
      break;
  }
  return std::make_unique<PassThrough>();
}

}  // namespace hermes::client
