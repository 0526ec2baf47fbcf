#pragma once

// What the benchmarks share: a table and percentiles.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace hermes {

inline double Ms(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}

struct Scale {
  bool smoke = false;
  int Of(int full, int smoke_count) const { return smoke ? smoke_count : full; }
};

class Table {
 public:
  void Row(const std::string& what, const std::string& measured, const std::string& target,
           bool met) {
    std::printf("| %-46s | %-58s | %-34s | %s |\n", what.c_str(), measured.c_str(), target.c_str(),
                met ? "yes" : "NO");
    std::fflush(stdout);
  }
};

template <typename... Args>
std::string Text(const char* format, Args... args) {
  char text[256];
  std::snprintf(text, sizeof(text), format, args...);
  return text;
}

inline double Percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(p * static_cast<double>(values.size())))];
}

}  // namespace hermes
