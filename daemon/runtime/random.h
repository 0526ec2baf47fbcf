#pragma once

// Randomness as an argument: seeded in the simulator, from the kernel in production. Loop thread.

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

namespace hermes {

class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next() = 0;

  // bound > 0; the bias is irrelevant at our sizes.
  uint64_t Below(uint64_t bound) { return Next() % bound; }
  std::string Hex(size_t bytes);  // 2 * bytes lower-case digits
  std::string Uuid();             // version 4
};

// getrandom(2): fit for names that must not be guessed.
class SystemRandom : public Random {
 public:
  uint64_t Next() override;
};

class SeededRandom : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  uint64_t Next() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace hermes
