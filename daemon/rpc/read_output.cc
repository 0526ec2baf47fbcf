#include "daemon/rpc/read_output.h"

#include <algorithm>
#include <utility>

#include "daemon/rpc/encode.h"
#include "daemon/rpc/grep.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kChunk = 256 << 10;

// One stream of one command, and the answer that grows.
struct Reading {
  OutputLog& log;
  OutputStream stream;
  v1::Channel channel;
  v1::ReadOutputResponse response;

  void AddGap(const OutputLog::Piece& piece) {
    v1::Gap* gap = response.add_gaps();
    gap->set_channel(channel);
    gap->set_from_offset(piece.offset);
    gap->set_to_offset(piece.gap_to);
    gap->set_reason(piece.gap_reason);
  }

  void AddPart(uint64_t offset, std::string data) {
    v1::Output* part = response.add_parts();
    part->set_channel(channel);
    part->set_offset(offset);
    part->set_data(std::move(data));
  }

  // At most `most` bytes of [from, to), gaps not counted. Returns where it stopped.
  absl::StatusOr<uint64_t> Range(uint64_t from, uint64_t to, size_t most) {
    bool joins = false;
    while (from < to && most > 0 && response.gaps_size() < kMaxGaps) {
      const size_t wanted = static_cast<size_t>(std::min<uint64_t>(most, to - from));
      ASSIGN_OR_RETURN(OutputLog::Piece piece, log.ReadAt(stream, from, wanted));
      if (piece.gap_to > from) {
        AddGap(piece);
        from = piece.gap_to;
        joins = false;
        continue;
      }
      if (piece.data.empty()) break;
      from += piece.data.size();
      most -= piece.data.size();
      if (joins) {
        response.mutable_parts(response.parts_size() - 1)->mutable_data()->append(piece.data);
      } else {
        AddPart(piece.offset, std::move(piece.data));
      }
      joins = true;
    }
    return from;
  }
};

absl::Status CheckOffset(const OutputLog& log, OutputStream stream, uint64_t offset) {
  if (offset <= log.end(stream)) return absl::OkStatus();
  return Error(Reason::k_OFFSET_BEYOND_END, "the offset lies behind what was produced so far",
               {{"field", "offset"}, {"end", std::to_string(log.end(stream))}});
}

absl::Status ReadEnds(const ReadCall& request, Reading& reading) {
  const uint64_t end = reading.log.end(reading.stream);
  ASSIGN_OR_RETURN(const uint64_t head_end, reading.Range(0, end, request.head));
  uint64_t next = head_end;
  if (request.tail > 0) {
    const uint64_t tail = reading.log.TailOffset(reading.stream, request.tail);
    ASSIGN_OR_RETURN(next, reading.Range(std::max(tail, head_end), end, request.tail));
  }
  reading.response.set_next_offset(next);
  return absl::OkStatus();
}

absl::Status ReadRange(const ReadCall& request, Reading& reading) {
  const uint64_t end = reading.log.end(reading.stream);
  ASSIGN_OR_RETURN(const uint64_t next, reading.Range(request.offset, end, request.limit));
  reading.response.set_next_offset(next);
  reading.response.set_more(next < end);
  return absl::OkStatus();
}

void AnswerGrep(const Grep& grep, uint64_t next, uint64_t end, Reading& reading) {
  for (const Grep::Line& line : grep.matches()) reading.AddPart(line.offset, line.text);
  reading.response.set_next_offset(next);
  reading.response.set_more(next < end);
}

Task<absl::Status> ReadMatches(const ReadCall* request, Reading* reading, Workers* workers) {
  CO_ASSIGN_OR_RETURN(std::shared_ptr<Grep> grep, Grep::Make(request->pattern, request->limit));
  uint64_t at = request->offset;
  uint64_t end = reading->log.end(reading->stream);
  const uint64_t stop = std::min(end, at + kMaxScanBytes);
  while (at < stop && !grep->full() && reading->response.gaps_size() < kMaxGaps) {
    const size_t most = static_cast<size_t>(std::min<uint64_t>(kChunk, stop - at));
    CO_ASSIGN_OR_RETURN(OutputLog::Piece piece, reading->log.ReadAt(reading->stream, at, most));
    if (piece.gap_to > at) {
      grep->Break();
      reading->AddGap(piece);
      at = piece.gap_to;
      continue;
    }
    if (piece.data.empty()) break;
    at += piece.data.size();
    co_await workers->Run([grep, piece = std::move(piece)] {
      grep->Feed(piece.offset, piece.data);
      return true;
    });
  }
  // The last line of a command that still runs may grow: it is left for the next call.
  const bool complete = at == end && reading->log.finished();
  if (complete) grep->Break();
  const uint64_t next = grep->full() ? grep->next_offset()
                        : complete   ? at
                                     : std::max(request->offset, grep->next_offset());
  AnswerGrep(*grep, next, complete || at < end || grep->full() ? end : next, *reading);
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<v1::ReadOutputResponse>> ReadOutput(std::shared_ptr<CommandRun> run,
                                                        ReadCall request, Workers* workers) {
  const bool has_pty = run->info().has_pty;
  if (request.wants_tty && !has_pty) {
    co_return BadField("channel", "is TTY, and the command has no terminal");
  }
  const OutputStream stream = request.stream.value_or(OutputStream::kStdout);
  CO_RETURN_IF_ERROR(CheckOffset(run->log(), stream, request.offset));
  Reading reading{run->log(), stream, ChannelOf(stream, has_pty), {}};
  switch (request.form) {
    case ReadCall::Form::kRange:
      CO_RETURN_IF_ERROR(ReadRange(request, reading));
      break;
    case ReadCall::Form::kEnds:
      CO_RETURN_IF_ERROR(ReadEnds(request, reading));
      break;
    case ReadCall::Form::kGrep:
      CO_RETURN_IF_ERROR(co_await ReadMatches(&request, &reading, workers));
      break;
  }
  reading.response.set_total_bytes(run->log().end(stream));
  reading.response.set_final(run->log().finished());
  co_return std::move(reading.response);
}

}  // namespace hermes
