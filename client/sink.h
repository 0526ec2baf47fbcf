#pragma once

// Where a followed command's output goes: straight through, into one JSON document, or as JSON
// lines. Confined to the thread that follows.

#include <memory>
#include <string>

#include "client/json.h"
#include "hermes/v1/exec.pb.h"

namespace hermes::client {

enum class Format { kTable, kJson, kJsonLines };

class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void OnStarted(const v1::Started& started) {}
  // Bytes in order, each once. False: whoever reads our output is gone.
  virtual bool OnOutput(const v1::Output& output) = 0;
  virtual void OnGap(const v1::Gap& gap) = 0;
  virtual void OnPhase(const v1::Phase& phase) {}
  // False as for OnOutput.
  virtual bool OnFinished(const v1::Command& command) { return true; }
};

std::unique_ptr<EventSink> MakeSink(Format format);

}  // namespace hermes::client
