/* calloc and operator new as the objects of this program call them, wrapped by the linker (--wrap): a sanitizer's own
 * operator new ends the process where memory is refused, but to be refused memory is one of the things that the library
 * must survive. Sizes that no small machine has are refused at once. The countdown belongs to the thread that set it.
 */
#include "allocations.h"

#include <cstddef>
#include <new>

namespace {

constexpr size_t most = size_t{64} << 20;
thread_local int left = -1;
thread_local bool failed = false;

bool refused(size_t count, size_t size) noexcept {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) || bytes > most) return true;
  if (left < 0 || left-- > 0) return false;
  failed = true;
  return true;
}

}  // namespace

bool fail_allocation_after(int n) noexcept {
  const bool was = failed;
  failed = false;
  left = n;
  return was;
}

extern "C" {
void* __real_calloc(size_t count, size_t size);
void* __wrap_calloc(size_t count, size_t size);
void* __real__Znwm(size_t size);
void* __wrap__Znwm(size_t size);
}

void* __wrap_calloc(size_t count, size_t size) {
  return refused(count, size) ? nullptr : __real_calloc(count, size);
}

void* __wrap__Znwm(size_t size) {
  if (refused(1, size)) throw std::bad_alloc();
  return __real__Znwm(size);
}
