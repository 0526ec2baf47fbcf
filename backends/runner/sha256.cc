#include "backends/runner/sha256.h"

#include <string.h>

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

namespace hermes::runner {
namespace {

constexpr size_t kBlock = 64;

alignas(16) constexpr uint32_t kRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t Turn(uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

void InPlainCode(uint32_t* state, const uint8_t* data, size_t blocks) {
  for (; blocks != 0; --blocks, data += kBlock) {
    uint32_t w[16];
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    for (size_t i = 0; i < 64; ++i) {
      uint32_t& word = w[i % 16];
      if (i < 16) {
        memcpy(&word, data + 4 * i, 4);
        word = __builtin_bswap32(word);
      } else {
        uint32_t early = w[(i + 1) % 16], late = w[(i + 14) % 16];
        word += (Turn(early, 7) ^ Turn(early, 18) ^ early >> 3) + w[(i + 9) % 16] +
                (Turn(late, 17) ^ Turn(late, 19) ^ late >> 10);
      }
      uint32_t e = v[4], a = v[0];
      uint32_t one = v[7] + (Turn(e, 6) ^ Turn(e, 11) ^ Turn(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                     kRounds[i] + word;
      uint32_t two =
          (Turn(a, 2) ^ Turn(a, 13) ^ Turn(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
      memmove(v + 1, v, 7 * sizeof v[0]);
      v[4] += one;
      v[0] = one + two;
    }
    for (size_t i = 0; i < 8; ++i) state[i] += v[i];
  }
}

// Four rounds at a time; the last sixteen words turn through four registers.
#if defined(__x86_64__)

bool HasInstructions() {
  unsigned a, b, c, d;
  constexpr unsigned kShaBit = 1U << 29;  // of leaf 7; who has it has SSE4.1 as well
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kShaBit) != 0;
}

__attribute__((target("sha,sse4.1"))) void WithInstructions(uint32_t* state, const uint8_t* data,
                                                            size_t blocks) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  // The instructions want the words as ABEF and CDGH, highest first.
  __m128i low = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<__m128i*>(state)), 0xb1);
  __m128i high = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<__m128i*>(state + 4)), 0x1b);
  __m128i abef = _mm_alignr_epi8(low, high, 8);
  __m128i cdgh = _mm_blend_epi16(high, low, 0xf0);
  for (; blocks != 0; --blocks) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4] = {};
    for (int i = 0; i < 16; ++i) {
      __m128i now;
      if (i < 4) {
        now = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data)), swap);
        data += 16;
      } else {
        now = _mm_add_epi32(_mm_sha256msg1_epu32(w[0], w[1]), _mm_alignr_epi8(w[3], w[2], 4));
        now = _mm_sha256msg2_epu32(now, w[3]);
      }
      w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = now;
      const __m128i* round = reinterpret_cast<const __m128i*>(kRounds) + i;
      __m128i sum = _mm_add_epi32(now, _mm_load_si128(round));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  low = _mm_shuffle_epi32(abef, 0x1b);
  high = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(low, high, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(high, low, 8));
}

#elif defined(__aarch64__)

bool HasInstructions() {
  constexpr unsigned long kSha2Bit = 1 << 6;
  return (getauxval(AT_HWCAP) & kSha2Bit) != 0;
}

__attribute__((target("sha2"))) void WithInstructions(uint32_t* state, const uint8_t* data,
                                                      size_t blocks) {
  uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
  for (; blocks != 0; --blocks) {
    const uint32x4_t abcd_before = abcd, efgh_before = efgh;
    uint32x4_t w[4] = {};
    for (int i = 0; i < 16; ++i) {
      uint32x4_t now;
      if (i < 4) {
        now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data)));
        data += 16;
      } else {
        now = vsha256su1q_u32(vsha256su0q_u32(w[0], w[1]), w[2], w[3]);
      }
      w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = now;
      uint32x4_t sum = vaddq_u32(now, vld1q_u32(kRounds + 4 * i));
      uint32x4_t abcd_now = abcd;
      abcd = vsha256hq_u32(abcd, efgh, sum);
      efgh = vsha256h2q_u32(efgh, abcd_now, sum);
    }
    abcd = vaddq_u32(abcd, abcd_before);
    efgh = vaddq_u32(efgh, efgh_before);
  }
  vst1q_u32(state, abcd);
  vst1q_u32(state + 4, efgh);
}

#endif

void Blocks(uint32_t* state, const uint8_t* data, size_t blocks) {
  static const bool has = HasInstructions();
  (has ? WithInstructions : InPlainCode)(state, data, blocks);
}

}  // namespace

void Sha256::Update(std::string_view bytes) {
  bytes_ += bytes.size();
  while (!bytes.empty()) {
    if (held_ == 0 && bytes.size() >= kBlock) {
      size_t blocks = bytes.size() / kBlock;
      Blocks(state_, reinterpret_cast<const uint8_t*>(bytes.data()), blocks);
      bytes.remove_prefix(blocks * kBlock);
      continue;
    }
    size_t piece = std::min(bytes.size(), kBlock - held_);
    memcpy(block_ + held_, bytes.data(), piece);
    bytes.remove_prefix(piece);
    held_ += piece;
    if (held_ < kBlock) return;
    Blocks(state_, block_, 1);
    held_ = 0;
  }
}

std::string Sha256::Finish() {
  const uint64_t bits = __builtin_bswap64(bytes_ * 8);
  std::string end(1, '\x80');
  end.resize(1 + (2 * kBlock - 9 - held_) % kBlock);
  end.append(reinterpret_cast<const char*>(&bits), sizeof bits);
  Update(end);
  for (uint32_t& word : state_) word = __builtin_bswap32(word);
  return std::string(reinterpret_cast<const char*>(state_), sizeof state_);
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (char c : bytes) {
    hex.push_back("0123456789abcdef"[static_cast<uint8_t>(c) >> 4]);
    hex.push_back("0123456789abcdef"[c & 15]);
  }
  return hex;
}

}  // namespace hermes::runner
