/* What the entry point hands to a kernel: plain data, checked before. Kernels allocate nothing and throw nothing. */
#pragma once

#include <cstddef>
#include <cstdint>

#include "counters.h"
#include "greta_attn.h"
#include "schedule.h"

namespace greta {

/* Query rows that share one walk over the keys; a row is one query of one head, query-major. */
constexpr int32_t block_rows = 128;

struct Sequence {
  int32_t first_token;
  int32_t q_len;
  int32_t kv_len;
  int32_t kv_start;     /* q_len may exceed kv_len: queries before the first key see none */
  const int32_t* pages; /* checked for all blocks below kv_len */
};

struct AttendArgs {
  int32_t phase, layer;
  int32_t n_heads, n_kv_heads, dqk, dv;
  int32_t act_dtype, kv_dtype;
  float scale;
  Schedule schedule;
  int32_t window;                 /* 0: all keys */
  float softcap;                  /* 0: none */
  const float *k_scale, *v_scale; /* [n_kv_heads] */
  const float *sinks, *alibi;     /* [n_heads] or NULL */
  int32_t n_seqs, n_tokens;
  const Sequence* seqs;
  const char *k, *v; /* this layer's pages, [page][kv head][slot][dim] */
  int32_t page_size;
  greta_tensor q, out, lse; /* lse.data may be NULL */
  int32_t threads;
  float* scratch; /* [threads][scratch_stride] */
  size_t scratch_stride;
  float* partials; /* decode: [splits][n_tokens][n_heads][partial_stride(dv)] */
  Counters* counters;
};

/* Floats of one row's unfinished softmax: m, l, padding up to 16, then the unnormalised output padded to 16. */
constexpr int32_t partial_stride(int32_t dv) {
  return 16 + round_up(dv, 16);
}

struct Kernels {
  const char* prefill_name;
  const char* decode_name;
  size_t (*scratch_floats)(const AttendArgs& args); /* of one thread, for either kernel */
  void (*prefill)(const AttendArgs& args);
  void (*decode)(const AttendArgs& args);
  void (*exp)(const float* x, float* y, int32_t n);  /* for tests; x <= 110 */
  void (*tanh)(const float* x, float* y, int32_t n); /* for tests */
};

#ifdef GRETA_HAVE_X86
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
#endif
namespace portable {
extern const Kernels kernels;
}

}  // namespace greta
