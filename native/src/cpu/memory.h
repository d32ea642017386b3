/* A block of zeroed memory that frees itself. */
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace greta {

class Block {
 public:
  Block() = default;
  /* Throws std::bad_alloc, also when count * size does not fit. calloc leaves pages untouched until they are used, so a
   * long max_len costs nothing before its rows are written. */
  Block(size_t count, size_t size) : data_(std::calloc(count ? count : 1, size)) {
    if (!data_) throw std::bad_alloc();
  }
  /* Asks for large pages, before the memory is touched. A stream over gigabytes in pages of 4 KiB waits for their
   * translation as long as for its data; but what is touched then takes 2 MiB at least. */
  void ask_for_large_pages(size_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t large = uintptr_t{2} << 20;
    const auto begin = reinterpret_cast<uintptr_t>(data_.get());
    const uintptr_t first = (begin + large - 1) / large * large, end = (begin + bytes) / large * large;
    if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE); /* a wish: it may fail */
#else
    static_cast<void>(bytes);
#endif
  }
  void* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> data_;
};

/* Floats that a call needs and the next one can use again. */
class Scratch {
 public:
  float* reserve(size_t floats) {
    if (floats > capacity_) {
      block_ = Block();
      capacity_ = 0;
      block_ = Block(floats + 16, sizeof(float));
      capacity_ = floats;
    }
    void* p = block_.get();
    size_t space = (capacity_ + 16) * sizeof(float);
    return static_cast<float*>(std::align(64, capacity_ * sizeof(float), p, space));
  }

 private:
  Block block_;
  size_t capacity_ = 0;
};

}  // namespace greta
