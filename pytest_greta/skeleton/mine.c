/* An attention library for pytest-greta. As it stands it is right: one plain loop for both phases, in float32.
 *
 *   make                                    builds libmine.so
 *   greta backend check ./libmine.so        does it keep the ABI?
 *   pytest .                                do its prefill and decode agree, layer by layer?
 *
 * Put your kernel where YOUR KERNEL stands, run the three again, and declare in greta_describe what it rounds. What
 * each argument means says greta_attn.h. */
#include "greta_attn.h"

#include <math.h>
#include <stdlib.h>

struct greta_session {
  int32_t n_layers, heads, kv_heads, dqk, dv, max_seqs, max_len;
  float scale;
};

int32_t greta_abi_version(void) { return GRETA_ABI_VERSION; }

/* Declare only what works. "stateless": the harness keeps the cache and hands over all rows with each call. Two kernels?
 * Name both and drop one_kernel. Lower precision, tiles, splits? They belong into "numerics" (docs: declarations). */
const char *greta_describe(void) {
  return "{\"name\": \"mine\", \"version\": \"1\", \"device_kind\": \"cpu\", \"kv\": \"stateless\","
         " \"features\": [\"gqa\", \"ragged\", \"q_len\", \"kv_start\"],"
         " \"act_dtypes\": [\"f32\"], \"kv_dtypes\": [\"f32\"], \"p_dtypes\": [\"f32\"],"
         " \"kernels\": {\"prefill\": \"mine_attend\", \"decode\": \"mine_attend\"}, \"one_kernel\": true}";
}

static _Thread_local const char *error = "";

const char *greta_last_error(void) { return error; }

static greta_status lacks(const char *feature) {
  error = feature;
  return GRETA_UNSUPPORTED;
}

greta_status greta_open(const greta_config *c, greta_session **session) {
  error = "an argument is not as greta_attn.h has it";
  if (c == NULL || session == NULL || c->struct_size < sizeof *c || c->abi != GRETA_ABI_VERSION || c->layers == NULL)
    return GRETA_INVALID_ARGUMENT;
  if (c->n_layers < 1 || c->n_heads < 1 || c->n_kv_heads < 1 || c->n_heads % c->n_kv_heads != 0 ||
      c->head_dim_qk < 1 || c->head_dim_v < 1 || c->max_seqs < 1 || c->max_len < 1 || !isfinite(c->softmax_scale))
    return GRETA_INVALID_ARGUMENT;
  if (c->act_dtype != GRETA_F32 || c->kv_dtype != GRETA_F32) return lacks("dtype: this library has f32");
  if (c->memory != GRETA_MEMORY_HOST) return lacks("memory: this library has host memory");
  for (int32_t i = 0; i < c->n_layers; ++i) { /* what is asked for and not there is refused, never ignored */
    const greta_layer_config *l = &c->layers[i];
    if (l->window != 0) return lacks("window");
    if (l->softcap != 0.0f) return lacks("softcap");
    if (l->k_scale != NULL || l->v_scale != NULL) return lacks("kv_scale");
    if (l->sinks != NULL) return lacks("sinks");
    if (l->alibi != NULL) return lacks("alibi");
  }
  greta_session *s = malloc(sizeof *s);
  if (s == NULL) return error = "out of memory", GRETA_OUT_OF_MEMORY;
  s->n_layers = c->n_layers, s->heads = c->n_heads, s->kv_heads = c->n_kv_heads;
  s->dqk = c->head_dim_qk, s->dv = c->head_dim_v, s->max_seqs = c->max_seqs, s->max_len = c->max_len;
  s->scale = c->softmax_scale != 0.0f ? c->softmax_scale : 1.0f / sqrtf((float)c->head_dim_qk);
  *session = s; /* config is the caller's: copy what you keep of it */
  return GRETA_OK;
}

void greta_close(greta_session *session) { free(session); }

static float *row(const greta_tensor *t, int64_t token, int64_t head) {
  return (float *)t->data + token * t->token_stride + head * t->head_stride;
}

static int usable(const greta_tensor *t) { return t != NULL && t->data != NULL && t->dtype == GRETA_F32; }

static int batch_is_right(const greta_session *s, const greta_batch *b) {
  if (b == NULL || b->struct_size < sizeof *b || b->n_seqs < 1 || b->n_tokens < 1 || b->cu_q[0] != 0) return 0;
  for (int32_t i = 0; i < b->n_seqs; ++i) {
    const int32_t start = b->kv_start != NULL ? b->kv_start[i] : 0;
    if (b->cu_q[i + 1] < b->cu_q[i] || b->cu_q[i + 1] > b->n_tokens || b->kv_len[i] < 0 || b->kv_len[i] > s->max_len ||
        start < 0 || start > b->kv_len[i] || b->seq_ids[i] < 0 || b->seq_ids[i] >= s->max_seqs)
      return 0;
  }
  return b->cu_q[b->n_seqs] == b->n_tokens;
}

/* YOUR KERNEL. One query of one head over the keys from `first` to `last`, both included and none where last < first; k
 * and v are the rows of its kv head, `k_step` and `v_step` floats apart. Writes out[dv]; returns the lse. */
static float attend_one(const greta_session *s, const float *q, const float *k, const float *v, int64_t k_step,
                        int64_t v_step, int64_t first, int64_t last, float *out) {
  float m = -INFINITY, l = 0.0f;
  for (int32_t d = 0; d < s->dv; ++d) out[d] = 0.0f;
  for (int64_t j = first; j <= last; ++j) { /* online softmax, a key at a time */
    float score = 0.0f;
    for (int32_t d = 0; d < s->dqk; ++d) score += q[d] * k[j * k_step + d];
    score *= s->scale;
    const float top = score > m ? score : m, old = expf(m - top), p = expf(score - top);
    for (int32_t d = 0; d < s->dv; ++d) out[d] = out[d] * old + p * v[j * v_step + d];
    l = l * old + p;
    m = top;
  }
  for (int32_t d = 0; d < s->dv; ++d) out[d] = last >= first ? out[d] / l : 0.0f;
  return m + logf(l); /* -inf where nothing is seen */
}

greta_status greta_attend(greta_session *s, int32_t layer, int32_t phase, const greta_batch *b, const greta_tensor *q,
                          const greta_tensor *k, const greta_tensor *v, const greta_tensor *out,
                          const greta_tensor *lse) {
  error = "an argument is not as greta_attn.h has it";
  if (s == NULL || layer < 0 || layer >= s->n_layers || (phase != GRETA_PREFILL && phase != GRETA_DECODE) ||
      !usable(q) || !usable(k) || !usable(v) || !usable(out) || (lse != NULL && !usable(lse)) || !batch_is_right(s, b))
    return GRETA_INVALID_ARGUMENT;
  int64_t rows = 0; /* of the sequences before this one, in k and v */
  for (int32_t i = 0; i < b->n_seqs; rows += b->kv_len[i++]) {
    const int32_t begin = b->cu_q[i], end = b->cu_q[i + 1], first = b->kv_start != NULL ? b->kv_start[i] : 0;
    for (int32_t t = begin; t < end; ++t) {
      const int32_t last = b->kv_len[i] - (end - begin) + (t - begin);
      for (int32_t h = 0; h < s->heads; ++h) {
        const int32_t kv = h / (s->heads / s->kv_heads);
        const float sum = attend_one(s, row(q, t, h), row(k, rows, kv), row(v, rows, kv), k->token_stride,
                                     v->token_stride, first, last, row(out, t, h));
        if (lse != NULL) *row(lse, t, h) = sum;
      }
    }
  }
  return GRETA_OK;
}
