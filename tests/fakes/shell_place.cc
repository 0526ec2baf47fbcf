#include "tests/fakes/shell_place.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "daemon/runtime/check.h"

namespace hermes::shell {
namespace {

int Memfd(std::string_view text) {
  int fd = memfd_create("text", MFD_CLOEXEC);
  CHECK(fd >= 0);
  CHECK(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  return fd;
}

struct Pipe {
  int read = -1;
  int write = -1;
};

Pipe MakePipe() {
  std::array<int, 2> ends;
  CHECK(pipe2(ends.data(), O_CLOEXEC) == 0);
  return {ends[0], ends[1]};
}

void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    ssize_t n = write(fd, text.data(), text.size());
    CHECK(n > 0);
    text.remove_prefix(static_cast<size_t>(n));
  }
  close(fd);
}

// Reads both until end of file.
void Collect(int out_fd, int err_fd, Ran* ran) {
  std::array<pollfd, 2> fds{{{out_fd, POLLIN, 0}, {err_fd, POLLIN, 0}}};
  std::array<std::string*, 2> texts{&ran->out, &ran->err};
  std::array<char, 65536> buffer;
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    CHECK(poll(fds.data(), fds.size(), -1) > 0);
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      ssize_t n = read(fds[i].fd, buffer.data(), buffer.size());
      if (n > 0) {
        texts[i]->append(buffer.data(), static_cast<size_t>(n));
      } else {
        close(fds[i].fd);
        fds[i].fd = -1;
      }
    }
  }
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

struct Place::Spawn {
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::string cwd;
  int fd8 = -1;
  int fd9 = -1;
  Pipe late;  // written with `late_text` after the start
  std::string late_text;
};

Place::Place(Kind kind, std::vector<std::string> shell) : kind_(kind), shell_(std::move(shell)) {
  std::string pattern = std::filesystem::temp_directory_path() / "shell_place.XXXXXX";
  CHECK(mkdtemp(pattern.data()) != nullptr);
  dir_ = pattern;
  state.cwd = dir_;
  state.env = {{"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"LC_ALL", "C.UTF-8"}, {"HOME", dir_}};
}

Place::~Place() {
  std::error_code dying_writers;
  std::filesystem::remove_all(dir_, dying_writers);
}

Ran Place::Execute(const Spawn& spawn) {
  Pipe out = MakePipe();
  Pipe err = MakePipe();
  std::vector<std::string> argv = spawn.argv;
  std::vector<std::string> env = spawn.env;
  auto argv_pointers = Pointers(argv);
  auto env_pointers = Pointers(env);
  auto begin = std::chrono::steady_clock::now();
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    int null = open("/dev/null", O_RDONLY);
    if (chdir(spawn.cwd.c_str()) != 0) _exit(125);
    // Numbers that no dup2 below overwrites before it is used.
    int fd8 = spawn.fd8 < 0 ? -1 : fcntl(spawn.fd8, F_DUPFD_CLOEXEC, 100);
    int fd9 = spawn.fd9 < 0 ? -1 : fcntl(spawn.fd9, F_DUPFD_CLOEXEC, 100);
    int out_fd = fcntl(out.write, F_DUPFD_CLOEXEC, 100);
    int err_fd = fcntl(err.write, F_DUPFD_CLOEXEC, 100);
    dup2(null, 0);
    dup2(out_fd, 1);
    dup2(err_fd, 2);
    close_range(3, 99, 0);
    if (fd8 >= 0) dup2(fd8, kCommandFd);
    if (fd9 >= 0) dup2(fd9, kPreludeFd);
    close_range(100, ~0U, 0);
    execvpe(argv_pointers[0], argv_pointers.data(), env_pointers.data());
    _exit(127);
  }
  close(out.write);
  close(err.write);
  if (spawn.late.write >= 0) {
    close(spawn.late.read);
    WriteAll(spawn.late.write, spawn.late_text);
  }
  Ran ran;
  Collect(out.read, err.read, &ran);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  ran.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (WIFEXITED(status)) ran.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) ran.signal = WTERMSIG(status);
  return ran;
}

Ran Place::RunOnly(const std::string& script, const RunOptions& options) {
  std::string path = options.capture_path.value_or(dir_ + "/.capture" + std::to_string(serial_++));
  Command command;
  command.script = script;
  command.cwd = options.cwd;
  command.env = options.env;
  command.capture_path = path;
  command.nonce = kPlaceNonce;
  std::string text = CommandText(kind_, command);
  std::string prelude = Prelude(kind_, state, options.sudo_askpass);

  Spawn spawn;
  spawn.argv = shell_;
  spawn.argv.insert(spawn.argv.end(), {"-c", std::string(Boot(kind_))});
  for (const auto& [name, value] : state.env) spawn.env.push_back(name + "=" + value);
  for (const auto& [name, value] : options.process_env) spawn.env.push_back(name + "=" + value);
  spawn.env.push_back("PWD=" + state.cwd);
  spawn.cwd = state.cwd;
  spawn.fd9 = Memfd(prelude);
  if (options.pipes) {
    spawn.late = MakePipe();
    spawn.late_text = text;
    spawn.fd8 = spawn.late.read;
  } else {
    spawn.fd8 = Memfd(text);
  }
  Ran ran = Execute(spawn);
  close(spawn.fd9);
  if (!options.pipes) close(spawn.fd8);
  if (!options.capture_path) {
    ran.capture = ReadFile(path);
    unlink(path.c_str());
  }
  ran.after = ParseCapture(kind_, ran.capture, kPlaceNonce, &ran.why);
  return ran;
}

Ran Place::Run(const std::string& script, const RunOptions& options) {
  Ran ran = RunOnly(script, options);
  std::set<std::string> not_kept;
  for (const auto& [name, value] : options.env) not_kept.insert(name);
  for (const auto& [name, value] : options.process_env) not_kept.insert(name);
  State base = state;
  if (ran.after && ran.signal == 0) Merge(base, *ran.after, not_kept, options.cwd.empty(), &state);
  return ran;
}

Ran Place::RunPlain(const std::string& script) {
  Spawn spawn;
  spawn.argv = shell_;
  spawn.argv.insert(spawn.argv.end(), {"-c", script});
  for (const auto& [name, value] : state.env) spawn.env.push_back(name + "=" + value);
  spawn.env.push_back("PWD=" + state.cwd);
  spawn.cwd = state.cwd;
  return Execute(spawn);
}

Ran Place::RunLogin(const std::string& home) {
  std::string path = dir_ + "/.login";
  Spawn spawn;
  spawn.argv = {shell_[0]};
  if (shell_[0] == "busybox") spawn.argv.push_back(shell_[1]);
  spawn.argv.insert(spawn.argv.end(), {"-l", "-c", LoginCaptureText(kind_, path, kPlaceNonce)});
  spawn.env = {"HOME=" + home, "PATH=/usr/bin:/bin"};
  spawn.cwd = home;
  Ran ran = Execute(spawn);
  ran.capture = ReadFile(path);
  unlink(path.c_str());
  ran.after = ParseCapture(kind_, ran.capture, kPlaceNonce, &ran.why);
  return ran;
}

Place Bash() { return Place(Kind::kBash, {"bash", "--norc", "--noprofile"}); }
Place Dash() { return Place(Kind::kSh, {"dash"}); }
Place Ash() { return Place(Kind::kSh, {"busybox", "sh"}); }

void WriteFile(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace hermes::shell
