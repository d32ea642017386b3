/* What the host hands to a kernel, by value: plain data that both sides compile. Pointers are device memory. */
#pragma once

#include <stdint.h>

namespace greta {

constexpr int tile_keys = 64; /* of every kernel: the softmax's tile, declared in greta_describe */

/* Waves of a block, by kernel. */
constexpr int rope_waves = 2, write_waves = 1, move_waves = 1, naive_waves = 1, flash_waves = 4, decode_waves = 4;
constexpr int flash_rows = 16 * flash_waves; /* query rows of one kv head that a prefill block takes */
constexpr int decode_rows[] = {1, 4, 8};     /* and a decode block, by kernel */

/* What a kernel found wrong: written once, read by greta_sync. A kernel that finds something wrong goes on with
 * something harmless. */
enum Complaint : int32_t {
  complaint_none = 0,
  complaint_page = 1,     /* of row `where`: page id `value` */
  complaint_kv_len = 2,   /* of sequence `where` */
  complaint_cu_q = 3,     /* of sequence `where` */
  complaint_slot = 4,     /* of token `where` */
  complaint_kv_start = 5, /* of sequence `where` */
  complaint_seq_id = 6    /* of sequence `where` */
};

struct Flag {
  int32_t complaint, where, value;
};

struct Tensor {
  void* data;
  int64_t token_stride, head_stride; /* in elements */
};

/* greta_batch on the device. */
struct BatchParams {
  int32_t n_seqs, n_tokens, max_q_len;
  const int32_t *cu_q, *kv_len, *kv_start, *positions, *slots, *seq_ids; /* kv_start may be NULL */
  const int32_t* pages; /* [n_seqs][blocks], or [max_seqs][blocks] where they are the session's own */
  int32_t pages_by_id;  /* 1: a row of `pages` is found by sequence id */
};

/* A layer's cache: [page][kv head][slot][dim] in kv_dtype. */
struct CacheParams {
  char *k, *v;
  int32_t n_kv_heads, dqk, dv, dtype;
  int32_t page_size, n_pages, blocks, max_len, max_seqs;
  Flag* flag;
};

struct RopeParams {
  BatchParams batch;
  Tensor q, k;
  int32_t dtype, n_heads, n_kv_heads, pairs, interleaved;
  const double* inverse_frequencies; /* [pairs] */
};

struct WriteParams {
  BatchParams batch;
  CacheParams cache;
  Tensor k, v;
  int32_t dtype; /* of k and v */
  const float *k_scale, *v_scale;
  int32_t* tables; /* [max_seqs][blocks], what greta_kv_read goes by */
  int32_t* rows;   /* [max_seqs], the highest row written, plus one */
};

/* greta_kv_read and greta_kv_load: dense [count][n_kv_heads][dim]. */
struct MoveParams {
  CacheParams cache;
  void *k, *v;
  const int32_t* pages; /* of the sequence */
  int32_t* rows;        /* of the sequence */
  int32_t start, count, to_cache;
};

struct TrimParams {
  CacheParams cache;        /* k and v are of layer 0 */
  int64_t k_layer, v_layer; /* bytes from one layer to the next */
  const int32_t* pages;
  int32_t* rows;
  int32_t n_layers, length;
};

/* An in-kernel fault of the faulty twin: what to do wrong, for which head and cache row of a query; -1 stands for all.
 */
struct FaultParams {
  int32_t kind, head, position;
};

struct AttendParams {
  BatchParams batch;
  CacheParams cache;
  Tensor q, out, lse; /* lse.data may be NULL */
  int32_t dtype;      /* of q and out */
  int32_t n_heads, group;
  int32_t round_p; /* prefill: P in `dtype` where it meets V */
  int32_t window;  /* 0: all keys */
  int32_t splits;
  float scale, softcap;           /* softcap 0: none */
  const float *k_scale, *v_scale; /* [n_kv_heads] */
  const float *sinks, *alibi;     /* [n_heads] or NULL */
  float* partials;                /* decode: [splits][n_tokens][n_heads][2 + dv]: m, l, unnormalised output */
  FaultParams fault;
};

}  // namespace greta
