/* Finds two threads of a block that touch the same shared memory, one of them writing, with no barrier between them.
 * The kernels, compiled with -fsanitize=thread, report each access to the functions of that sanitizer's runtime, which
 * are ours here. An order of threads can hide that a barrier is missing; it cannot be hidden from this. */
#include <stdint.h>

#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "emulate.h"

namespace greta {
namespace gpu {
namespace {

constexpr int none = -1;
constexpr uintptr_t unit = 2; /* bytes of the narrowest type in shared memory */

/* Since the last barrier, by thread. */
struct Touches {
  int writer = none, reader = none;
  bool more_readers = false, of_more_waves = false;
  unsigned read_at = 0; /* how many wave operations the readers' wave had behind it, at the latest read */

  void read_by(int thread, unsigned operations) {
    if (reader == none) reader = thread;
    more_readers |= reader != thread;
    of_more_waves |= reader / wave != thread / wave;
    read_at = std::max(read_at, operations);
  }
  /* What a wave's lanes read before an operation of the wave, one of them may write after it: the operation waits for
   * all of them. It does not make what they wrote visible. */
  bool all_have_read(int thread, unsigned operations) const {
    if (reader == none || (reader == thread && !more_readers)) return true;
    return !of_more_waves && reader / wave == thread / wave && read_at < operations;
  }
};

std::unordered_map<uintptr_t, Touches> touches;
unsigned seen_barriers = 0;

void touched(const volatile void* address, uintptr_t bytes, bool write) {
  if (!is_shared(const_cast<const void*>(address))) return;
  const Standing now = standing();
  if (now.barriers != seen_barriers) touches.clear();
  seen_barriers = now.barriers;
  const auto first = reinterpret_cast<uintptr_t>(address);
  for (uintptr_t at = first / unit; at <= (first + bytes - 1) / unit; ++at) {
    Touches& own = touches[at];
    const bool after_write = own.writer != none && own.writer != now.thread;
    if (after_write || (write && !own.all_have_read(now.thread, now.operations))) {
      char text[100];
      std::snprintf(text, sizeof text, "%s shared memory that thread %d %s, with no barrier between",
                    write ? "writes" : "reads", after_write ? own.writer : own.reader, after_write ? "wrote" : "read");
      stop(text);
      return;
    }
    if (write) {
      own.writer = now.thread;
    } else {
      own.read_by(now.thread, now.operations);
    }
  }
}

}  // namespace
}  // namespace gpu
}  // namespace greta

#define TOUCH(kind, write, bytes)                      \
  void __tsan_##kind##bytes(void* address) {           \
    greta::gpu::touched(address, bytes, write);        \
  }                                                    \
  void __tsan_unaligned_##kind##bytes(void* address) { \
    greta::gpu::touched(address, bytes, write);        \
  }
#define TOUCHES(bytes) TOUCH(read, false, bytes) TOUCH(write, true, bytes)

extern "C" {
TOUCHES(1)
TOUCHES(2)
TOUCHES(4)
TOUCHES(8)
TOUCHES(16)
void __tsan_read_range(void* address, unsigned long bytes) {
  greta::gpu::touched(address, bytes, false);
}
void __tsan_write_range(void* address, unsigned long bytes) {
  greta::gpu::touched(address, bytes, true);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
/* Of the variable by which a static array knows that it is there; all run in one thread. */
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int) {
  return *address;
}
}
