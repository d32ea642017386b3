/* Where a program of calls takes its choices from: a file of bytes, as the fuzzer makes them, or a seeded generator
 * that writes down the bytes it made up. Any bytes are a program; after the last one every choice is 0. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

class Source {
 public:
  Source(const uint8_t* data, size_t size) : bytes_(data, data + size), recording_(false), most_(size) {}
  /* Makes up at most `most` bytes. Without `hostile` no value is one that must be refused. */
  Source(uint32_t seed, size_t most, bool hostile) : rng_(seed), recording_(true), tame_(!hostile), most_(most) {}

  bool left() const { return next_ < most_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

  uint8_t byte() {
    if (!left()) return 0;
    if (recording_) bytes_.push_back(static_cast<uint8_t>(rng_() & 0xffu));
    return bytes_[next_++];
  }
  int32_t word() {
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) bits = bits << 8 | byte();
    return static_cast<int32_t>(bits);
  }
  int32_t below(int32_t n) { return byte() % n; }
  int32_t between(int32_t lo, int32_t hi) { return lo + below(hi - lo + 1); }
  int32_t of(std::initializer_list<int32_t> values) {
    return values.begin()[below(static_cast<int32_t>(values.size()))];
  }
  bool once_in(int32_t n) { return below(n) == n - 1; }
  /* Whether the next value is one that no honest caller passes. */
  bool hostile() {
    if (!tame_) return byte() >= 252;
    if (left()) { /* the byte that says no */
      bytes_.push_back(0);
      ++next_;
    }
    return false;
  }
  /* `honest`, or something else entirely. */
  int32_t or_hostile(int32_t honest) {
    if (!hostile()) return honest;
    const auto beside = [&](uint32_t step) { return static_cast<int32_t>(static_cast<uint32_t>(honest) + step); };
    const int32_t edges[] = {INT32_MIN, INT32_MIN + 1, -65536,    -2,        -1,         0,       1,
                             2,         255,           256,       65535,     65536,      1 << 24, (1 << 30),
                             1 << 20,   INT32_MAX - 1, INT32_MAX, beside(1), beside(~0u)};
    constexpr int32_t n = static_cast<int32_t>(sizeof edges / sizeof *edges);
    const int32_t pick = below(n + 1);
    return pick == n ? word() : edges[pick];
  }
  float number() {
    const float edges[] = {1.0f, 0.5f, 3.0f, 0.01f, 240.0f, 1e-30f, 20.0f};
    if (!hostile()) return edges[below(7)];
    const float bad[] = {0.0f, -1.0f, -0.0f, __builtin_nanf(""), __builtin_inff(), -__builtin_inff(), 3e38f, 1e-45f};
    return bad[below(8)];
  }

 private:
  std::vector<uint8_t> bytes_;
  std::mt19937 rng_;
  bool recording_, tame_ = false;
  size_t most_, next_ = 0;
};
