#include <cstring>

#include "passes.h"

namespace greta_reference {
namespace {

struct Table {
  const Passes* entries[4] = {};

  Table() {
    int size = 0;
#ifdef GRETA_HAVE_X86
    __builtin_cpu_init();
    const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (fma && __builtin_cpu_supports("avx512f")) entries[size++] = &avx512::passes;
    if (fma) entries[size++] = &avx2::passes;
#endif
    entries[size] = &portable::passes;
  }
};

}  // namespace

const Passes* const* usable() {
  static const Table table;
  return table.entries;
}

}  // namespace greta_reference

int32_t greta_reference_within(const greta_reference_stored* stored, const greta_reference_bounded* reference,
                               const greta_reference_rows* rows) {
  return (*greta_reference::usable())->within(*stored, *reference, *rows);
}

int32_t greta_reference_rope_within(const greta_reference_stored* stored, const greta_reference_rope* rope,
                                    const greta_reference_rows* rows) {
  return (*greta_reference::usable())->rope_within(*stored, *rope, *rows);
}

void greta_reference_weigh(const greta_reference_softmax* softmax, const greta_reference_weighed* weighed) {
  (*greta_reference::usable())->weigh(*softmax, *weighed);
}

void greta_reference_shift(const greta_reference_scores* scores) {
  (*greta_reference::usable())->shift(*scores);
}

void greta_reference_normalise(const greta_reference_scores* scores) {
  (*greta_reference::usable())->normalise(*scores);
}

void greta_reference_widen(const float* values, int64_t count, double* wide, float* magnitude) {
  (*greta_reference::usable())->widen(values, count, wide, magnitude);
}

void greta_reference_same(const void* left, const void* right, int64_t rows, int64_t bytes, uint8_t* same) {
  const auto *mine = static_cast<const char*>(left), *theirs = static_cast<const char*>(right);
  for (int64_t r = 0; r < rows; ++r) {
    same[r] = std::memcmp(mine + r * bytes, theirs + r * bytes, static_cast<size_t>(bytes)) == 0;
  }
}
