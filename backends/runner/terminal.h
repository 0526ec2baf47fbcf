#pragma once

// Pseudo terminals.

#include <stdint.h>

#include "backends/runner/sys.h"

namespace hermes::runner {

// False: errno says why.
bool OpenTerminal(uint16_t cols, uint16_t rows, Fd* master, Fd* slave);

void ResizeTerminal(int master, uint16_t cols, uint16_t rows);
int EofByte(int master);  // what ends the input of a canonical terminal
void SignalForeground(int master, int signal);

}  // namespace hermes::runner
