#pragma once

// A real hermesctl process, found beside the test binary, with its streams in the test's hands.

#include <sys/types.h>

#include <string>
#include <vector>

namespace hermes::client {

class Child {
 public:
  enum class Streams {
    kPipes,
    kTerminal,     // stdin and stdout; stderr is a pipe
    kAllTerminal,  // stderr, too: it is part of out()
  };

  // The standard environment plus `environment` ("K=V").
  explicit Child(std::vector<std::string> arguments, Streams streams = Streams::kPipes,
                 std::vector<std::string> environment = {});
  ~Child();  // kills what is left
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Write(const std::string& data);
  void CloseStdin();
  void CloseStdout();
  void Signal(int number) const;
  // Reads until the stream holds `text`; false at its end or after 10 s.
  bool WaitForStdout(const std::string& text);
  bool WaitForStderr(const std::string& text);
  // Reads both streams to their ends and reaps: the exit code, or 1000 + the signal that ended it.
  int Wait();

  const std::string& out() const { return out_; }
  const std::string& err() const { return err_; }
  // Of the terminal: the side of the person.
  int terminal() const { return stdin_; }

 private:
  bool ReadSome(int timeout_ms);
  bool WaitFor(const std::string& stream, const std::string& text);

  pid_t pid_ = -1;
  int stdin_ = -1;
  int stdout_ = -1;
  int stderr_ = -1;
  std::string out_;
  std::string err_;
};

}  // namespace hermes::client
