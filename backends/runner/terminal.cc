#include "backends/runner/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

namespace hermes::runner {

bool OpenTerminal(uint16_t cols, uint16_t rows, Fd* master, Fd* slave) {
  master->Reset(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  int unlock = 0;
  unsigned number = 0;
  if (!master->valid() || ioctl(master->get(), TIOCSPTLCK, &unlock) != 0 ||
      ioctl(master->get(), TIOCGPTN, &number) != 0)
    return false;
  std::string path = "/dev/pts/" + Decimal(number);
  slave->Reset(open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave->valid()) return false;
  ResizeTerminal(master->get(), cols, rows);
  return true;
}

void ResizeTerminal(int master, uint16_t cols, uint16_t rows) {
  winsize size{.ws_row = rows, .ws_col = cols, .ws_xpixel = 0, .ws_ypixel = 0};
  ioctl(master, TIOCSWINSZ, &size);
}

int EofByte(int master) {
  termios settings;
  constexpr int kControlD = 4;
  return tcgetattr(master, &settings) == 0 ? settings.c_cc[VEOF] : kControlD;
}

void SignalForeground(int master, int signal) {
  pid_t group = tcgetpgrp(master);
  if (group > 1) kill(-group, signal);
}

}  // namespace hermes::runner
