/* greta_attn.h: the C ABI, version 1, between pytest-greta and an attention library.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A library needs five functions: greta_abi_version, greta_describe, greta_open, greta_close, greta_attend. Every other
 * one is a capability: export it when it works, leave it out otherwise (never a stub), and the harness does its part.
 *
 * Conventions
 *   - Every function but the first two returns a greta_status. On anything but GRETA_OK, greta_last_error() of the same
 *     thread says what was wrong in one line. No exceptions, no exit(), nothing on stdout.
 *   - Calls on one session come from one thread, are ordered on the session's stream and may be asynchronous; outputs
 *     hold after greta_sync, which also returns errors that were found late (a bad page id on a device, say).
 *   - Arrays in greta_batch and all tensors live in the session's memory space (GRETA_MEMORY_HOST or _DEVICE). The
 *     arrays in greta_config are host memory and are copied by greta_open.
 *   - Strides and offsets are int64 and count elements. Layers, heads, tokens, pages and positions count from 0.
 *   - A pointer marked "or NULL" may be NULL; no other may.
 *
 * What stands between the two cdef marks is read by cffi as it is: no directives there but "#define NAME integer".
 */
#ifndef GRETA_ATTN_H
#define GRETA_ATTN_H

#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* cdef begin */
#define GRETA_ABI_VERSION 1

typedef enum greta_status {
  GRETA_OK = 0,
  GRETA_INVALID_ARGUMENT = 1, /* a size, id, pointer or length that cannot be right */
  GRETA_UNSUPPORTED = 2,      /* a right request for something this library does not have */
  GRETA_OUT_OF_MEMORY = 3,
  GRETA_NO_DEVICE = 4,
  GRETA_DEVICE_ERROR = 5, /* an error of the device or its runtime */
  GRETA_INTERNAL = 6
} greta_status;

typedef enum greta_dtype {
  GRETA_F32 = 0,
  GRETA_BF16 = 1,
  GRETA_F16 = 2,
  GRETA_FP8_E4M3FN = 3,  /* OCP: max 448, 0x7f and 0xff are NaN */
  GRETA_FP8_E4M3FNUZ = 4 /* gfx942: max 240, 0x80 is NaN, half the value of e4m3fn for the same byte */
} greta_dtype;

typedef enum greta_memory { GRETA_MEMORY_HOST = 0, GRETA_MEMORY_DEVICE = 1 } greta_memory;

typedef enum greta_phase { GRETA_PREFILL = 0, GRETA_DECODE = 1 } greta_phase;

typedef enum greta_rope_style {
  GRETA_ROPE_NONE = 0,
  GRETA_ROPE_HALF = 1,       /* pairs (i, i + rotary_dim/2), "NeoX" */
  GRETA_ROPE_INTERLEAVED = 2 /* pairs (2i, 2i + 1), raw GGUF weights of arch llama */
} greta_rope_style;

typedef enum greta_direction {
  GRETA_DIRECTION_DEFAULT = 0,
  GRETA_FORWARD = 1, /* key tiles from the first to the last */
  GRETA_REVERSE = 2
} greta_direction;

typedef enum greta_tile_origin {
  GRETA_ORIGIN_DEFAULT = 0,
  GRETA_ORIGIN_ZERO = 1,  /* tiles start at key 0 */
  GRETA_ORIGIN_WINDOW = 2 /* tiles start at the first visible key */
} greta_tile_origin;

typedef enum greta_max_update {
  GRETA_MAX_DEFAULT = 0,
  GRETA_MAX_EVERY_TILE = 1,
  GRETA_MAX_LAZY = 2, /* only when the max grew by more than max_threshold */
  GRETA_MAX_NONE = 3  /* m = 0 */
} greta_max_update;

/* How one phase walks the keys. A field of 0 asks for the library's default; an explicit `splits` never depends on the
 * batch. */
typedef struct greta_schedule {
  int32_t tile;      /* keys a tile */
  int32_t splits;    /* parts of whole tiles that are combined at the end */
  int32_t direction; /* greta_direction */
  int32_t tile_origin;
  int32_t max_update;
  float max_threshold;
  int32_t p_dtype; /* greta_dtype of the softmax weights before the product with V */
  float p_scale;   /* P is multiplied by it before rounding; 0 means 1 */
} greta_schedule;

typedef struct greta_rope_config {
  double base;
  int32_t style;         /* greta_rope_style */
  int32_t rotary_dim;    /* leading dimensions that turn; even; 0 means head_dim_qk */
  const double* factors; /* [rotary_dim/2] divisors of the inverse frequencies, or NULL for 1 */
} greta_rope_config;

typedef struct greta_layer_config {
  greta_rope_config rope;
  int32_t window;       /* a query sees its last `window` keys, itself included; 0: all */
  float softcap;        /* s = softcap * tanh(s / softcap); 0: none */
  const float* k_scale; /* [n_kv_heads]: stored k = k / k_scale, or NULL for 1 */
  const float* v_scale; /* [n_kv_heads], or NULL for 1 */
  const float* sinks;   /* [n_heads] extra score with value 0, or NULL */
  const float* alibi;   /* [n_heads] slope: adds slope * (key slot - query slot), or NULL */
} greta_layer_config;

typedef struct greta_config {
  uint32_t struct_size; /* sizeof(greta_config) of the caller */
  int32_t abi;          /* GRETA_ABI_VERSION of the caller */
  int32_t n_layers;
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim_qk;
  int32_t head_dim_v;
  int32_t max_seqs;
  int32_t max_len;                  /* rows a sequence can hold */
  int32_t page_size;                /* rows a page; 0: one contiguous block a sequence */
  int32_t n_pages;                  /* pages of the whole cache when page_size > 0 */
  int32_t act_dtype;                /* greta_dtype of q, k, v and out */
  int32_t kv_dtype;                 /* greta_dtype of the cache */
  float softmax_scale;              /* 0 means 1 / sqrt(head_dim_qk) */
  int32_t memory;                   /* greta_memory */
  int32_t device;                   /* index into the devices this process sees */
  void* stream;                     /* the runtime's stream, or NULL for a stream of the library's own */
  int32_t threads;                  /* CPU threads; 0: the library's choice */
  greta_schedule schedule[2];       /* by greta_phase */
  const greta_layer_config* layers; /* [n_layers] */
} greta_config;

typedef struct greta_session greta_session;

/* One call's sequences. Query i of a sequence with q_len queries sees the rows
 *   kv_start .. kv_len - q_len + i   (both included), cut by the layer's window. With fewer rows than queries the first
 * queries see none. */
typedef struct greta_batch {
  uint32_t struct_size; /* sizeof(greta_batch) of the caller */
  int32_t n_seqs;
  int32_t n_tokens;
  int32_t max_q_len;
  int32_t max_kv_len;
  const int32_t* cu_q;        /* [n_seqs + 1] first token of each sequence; cu_q[n_seqs] == n_tokens */
  const int32_t* kv_len;      /* [n_seqs] rows in the cache, those of this call included */
  const int32_t* kv_start;    /* [n_seqs] first row that may be seen (left padding), or NULL for 0 */
  const int32_t* positions;   /* [n_tokens] for RoPE only */
  const int32_t* slots;       /* [n_tokens] logical cache rows that greta_kv_write fills */
  const int32_t* seq_ids;     /* [n_seqs] < max_seqs */
  const int32_t* block_table; /* [n_seqs, ceil(max_len / page_size)] page ids, or NULL when page_size is 0 */
} greta_batch;

typedef struct greta_tensor {
  void* data;
  int32_t dtype; /* greta_dtype */
  int64_t token_stride;
  int64_t head_stride; /* the last dimension is contiguous */
} greta_tensor;

/* Calls of one kernel since greta_open. */
typedef struct greta_counter {
  char kernel[64];
  int32_t phase; /* greta_phase */
  int64_t calls;
} greta_counter;

/* --- required -------------------------------------------------------------------------------------------------- */
int32_t greta_abi_version(void);
/* A JSON object that lives as long as the library: name, version, device_kind, features, kernels, numerics. */
const char* greta_describe(void);
greta_status greta_open(const greta_config* config, greta_session** session);
void greta_close(greta_session* session);
/* q, out: [n_tokens, n_heads, dim]. k_new, v_new: NULL, but for a library that declares "prefill_kv": "fresh" (the
 * rows of this call, [n_tokens, n_kv_heads, dim], in act_dtype) or "kv": "stateless" (all kv_len rows of each sequence,
 * one after the other, as a cache would hold them: in kv_dtype, divided by k_scale and v_scale). lse: float32
 * [n_tokens, n_heads], natural log after scale, cap, bias and sink, or NULL. A query that sees no row gets out = 0 and
 * lse = -inf, or its sink's score. */
greta_status greta_attend(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                          const greta_tensor* q, const greta_tensor* k_new, const greta_tensor* v_new,
                          const greta_tensor* out, const greta_tensor* lse);

/* --- capabilities ---------------------------------------------------------------------------------------------- */
const char* greta_last_error(void);
greta_status greta_device_count(int32_t* count);
/* In place; q [n_tokens, n_heads, head_dim_qk], k [n_tokens, n_kv_heads, head_dim_qk]. */
greta_status greta_rope(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                        const greta_tensor* q, const greta_tensor* k);
/* Rows go to batch.slots of each sequence. A paged library remembers for greta_kv_read and greta_kv_load the
 * block_table row that each sequence was last given here. */
greta_status greta_kv_write(greta_session* session, int32_t layer, const greta_batch* batch, const greta_tensor* k,
                            const greta_tensor* v);
/* Raw stored bytes of rows start .. start + count - 1 in logical order, dense [count, n_kv_heads, dim] in kv_dtype.
 * Before the first greta_kv_write of a sequence its pages are the identity: seq * ceil(max_len / page_size) + i. */
greta_status greta_kv_read(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count, void* k,
                           void* v);
greta_status greta_kv_load(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count,
                           const void* k, const void* v);
/* Rows from `len` on are forgotten, in all layers. Nothing asks for them again before they are written anew, so that a
 * library whose batches bring every length may have nothing to do here. */
greta_status greta_kv_trim(greta_session* session, int32_t seq, int32_t len);
/* Fills counters[0 .. min(capacity, *count) - 1]; *count is the number of kernels that ran. */
greta_status greta_counters(greta_session* session, greta_counter* counters, int32_t capacity, int32_t* count);
greta_status greta_sync(greta_session* session);
/* cdef end */

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* GRETA_ATTN_H */
