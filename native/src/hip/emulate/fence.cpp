#include "fence.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace greta {
namespace gpu {
namespace {

/* [Piece][no access][slack, data, up to 15 bytes][no access]: each part in pages of its own. */
struct Piece {
  size_t mapped, bytes;
};
constexpr int untouched = 0xff;
/* Bytes from which only what lies around the data is marked: caches of this size are for tests of 64-bit offsets, in
 * which no more memory may be taken than is used. */
constexpr size_t large = size_t{1} << 30;

size_t page_bytes() {
  return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

void* fenced(size_t bytes) {
  if (bytes > SIZE_MAX / 2) return nullptr;
  const size_t page = page_bytes(), data = (bytes + (bytes == 0 ? 1 : 0) + 15) / 16 * 16;
  const size_t room = (data + page - 1) / page * page, mapped = room + 3 * page;
  void* all = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  char* inner = static_cast<char*>(all) + 2 * page;
  if (mprotect(all, page, PROT_READ | PROT_WRITE) != 0 || mprotect(inner, room, PROT_READ | PROT_WRITE) != 0) {
    munmap(all, mapped);
    return nullptr;
  }
  *static_cast<Piece*>(all) = {mapped, bytes};
  char* first = inner + room - data;
  memset(inner, untouched, bytes < large ? room : static_cast<size_t>(first - inner));
  memset(first + bytes, untouched, data - bytes);
  return first;
}

void zero_fenced(void* data, size_t bytes) {
  if (bytes < large) {
    memset(data, 0, bytes);
  } else { /* what was never touched is zero; what was becomes so page by page, its ends by hand */
    const size_t page = page_bytes();
    char *begin = static_cast<char*>(data), *end = begin + bytes;
    char *from = begin + (page - reinterpret_cast<uintptr_t>(begin) % page) % page,
         *to = end - reinterpret_cast<uintptr_t>(end) % page;
    memset(begin, 0, static_cast<size_t>(from - begin));
    madvise(from, static_cast<size_t>(to - from), MADV_DONTNEED);
    memset(to, 0, static_cast<size_t>(end - to));
  }
}

void unfence(void* data) noexcept {
  if (data == nullptr) return;
  const size_t page = page_bytes();
  auto* first = static_cast<unsigned char*>(data);
  unsigned char* inner = first - reinterpret_cast<uintptr_t>(first) % page;
  void* all = inner - 2 * page;
  const Piece piece = *static_cast<Piece*>(all);
  const unsigned char* end = static_cast<unsigned char*>(all) + piece.mapped - page;
  for (const unsigned char* byte = inner; byte < end; ++byte) {
    if (byte == first) byte += piece.bytes;
    if (byte < end && *byte != untouched) {
      fprintf(stderr, "emulated device memory: a kernel wrote %s the %zu bytes that it was given\n",
              byte < first ? "before" : "behind", piece.bytes);
      abort();
    }
  }
  munmap(all, piece.mapped);
}

}  // namespace gpu
}  // namespace greta
