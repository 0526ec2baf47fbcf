#pragma once

// Text that is safe to show: what comes from the daemon or from commands may hold any byte.
// Pure and thread-safe.

#include <string>
#include <string_view>
#include <vector>

namespace hermes::client {

bool IsUtf8(std::string_view bytes);

// Valid UTF-8 unchanged; every byte that is not part of it becomes the four characters \xHH.
std::string ToUtf8(std::string_view bytes);

// As ToUtf8, and control characters (C0, DEL, C1, line separators, direction overrides) become \n,
// \t, \xHH or \u{HEX}: the result cannot move a cursor, colour a screen or forge a line.
std::string ForTerminal(std::string_view bytes);

std::string Base64(std::string_view bytes);

// Columns aligned by two spaces; the last one is not padded. Cells are made safe by ForTerminal.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  // With `colour`, cells that are well-known state names are coloured.
  std::string Render(bool colour) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace hermes::client
