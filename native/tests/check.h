/* A test program in four lines: CHECK counts, finish() prints and returns the exit status. */
#pragma once

#include <atomic>
#include <cstdio>

namespace check {

inline std::atomic<int> failures{0};
inline std::atomic<long> checks{0};

inline int finish(const char* name) {
  std::printf("%s: %ld checks, %d failed\n", name, checks.load(), failures.load());
  return failures == 0 ? 0 : 1;
}

}  // namespace check

#define CHECK(condition, ...)                                              \
  do {                                                                     \
    ++check::checks;                                                       \
    if (!(condition) && ++check::failures <= 20) {                         \
      std::fprintf(stderr, "%s:%d: " #condition ": ", __FILE__, __LINE__); \
      std::fprintf(stderr, __VA_ARGS__);                                   \
      std::fputc('\n', stderr);                                            \
    }                                                                      \
  } while (false)
