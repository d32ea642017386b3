/* An attention library for pytest-greta in plain C, with a cache and two kernels of its own.
 *
 * Prefill keeps a query's scores and goes over them three times; decode sees each key once (online softmax). The cache
 * is one block of rows [layer][sequence][slot][kv head][dim] in float32. Sliding windows, GQA, left padding, ragged
 * batches and several queries a decode; everything else is refused. greta_attn.h says what each argument means. */
#include "greta_attn.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct greta_session {
  int32_t n_layers, heads, kv_heads, dqk, dv, max_seqs, max_len, *window;
  float scale, *k, *v, *scores;
};

static _Thread_local char why[160] = "";

static greta_status fail(greta_status status, const char *format, ...) { /* one line for greta_last_error */
  va_list values;
  va_start(values, format);
  vsnprintf(why, sizeof why, format, values);
  va_end(values);
  return status;
}

int32_t greta_abi_version(void) { return GRETA_ABI_VERSION; }
const char *greta_last_error(void) { return why; }

const char *greta_describe(void) {
  return "{\"name\": \"c-example\", \"version\": \"1\", \"device_kind\": \"cpu\", \"kv\": \"cached\","
         " \"features\": [\"gqa\", \"ragged\", \"q_len\", \"kv_start\", \"window\"],"
         " \"act_dtypes\": [\"f32\"], \"kv_dtypes\": [\"f32\"], \"p_dtypes\": [\"f32\"],"
         " \"kernels\": {\"prefill\": \"three_passes\", \"decode\": \"online\"}}";
}

void greta_close(greta_session *s) {
  if (s == NULL) return;
  free(s->window), free(s->k), free(s->v), free(s->scores), free(s);
}

static greta_status check_config(const greta_config *c) {
  if (c == NULL || c->layers == NULL) return fail(GRETA_INVALID_ARGUMENT, "config or its layers are NULL");
  if (c->struct_size < sizeof *c || c->abi != GRETA_ABI_VERSION)
    return fail(GRETA_INVALID_ARGUMENT, "config is of ABI %d, expected %d", c->abi, GRETA_ABI_VERSION);
  if (c->n_layers < 1 || c->n_heads < 1 || c->n_kv_heads < 1 || c->n_heads % c->n_kv_heads != 0 ||
      c->head_dim_qk < 1 || c->head_dim_v < 1 || c->max_seqs < 1 || c->max_len < 1 || !isfinite(c->softmax_scale))
    return fail(GRETA_INVALID_ARGUMENT, "config holds a size below 1, heads that do not group, or no finite scale");
  if (c->act_dtype != GRETA_F32 || c->kv_dtype != GRETA_F32) return fail(GRETA_UNSUPPORTED, "dtype: float32 only");
  if (c->memory != GRETA_MEMORY_HOST) return fail(GRETA_UNSUPPORTED, "memory: host only");
  if (c->page_size != 0) return fail(GRETA_UNSUPPORTED, "paged: one block a sequence");
  for (int32_t i = 0; i < c->n_layers; ++i) {
    const greta_layer_config *l = &c->layers[i];
    if (l->window < 0) return fail(GRETA_INVALID_ARGUMENT, "layers[%d].window is %d", i, l->window);
    if (l->softcap != 0.0f) return fail(GRETA_UNSUPPORTED, "softcap: none"); /* "feature: words" */
    if (l->k_scale != NULL || l->v_scale != NULL) return fail(GRETA_UNSUPPORTED, "kv_scale: none");
    if (l->sinks != NULL) return fail(GRETA_UNSUPPORTED, "sinks: none");
    if (l->alibi != NULL) return fail(GRETA_UNSUPPORTED, "alibi: none");
  }
  return GRETA_OK;
}

greta_status greta_open(const greta_config *c, greta_session **session) {
  const greta_status status = check_config(c);
  if (status != GRETA_OK) return status;
  if (session == NULL) return fail(GRETA_INVALID_ARGUMENT, "session is NULL");
  greta_session *s = calloc(1, sizeof *s);
  if (s == NULL) return fail(GRETA_OUT_OF_MEMORY, "no memory");
  s->n_layers = c->n_layers, s->heads = c->n_heads, s->kv_heads = c->n_kv_heads;
  s->dqk = c->head_dim_qk, s->dv = c->head_dim_v, s->max_seqs = c->max_seqs, s->max_len = c->max_len;
  s->scale = c->softmax_scale != 0.0f ? c->softmax_scale : 1.0f / sqrtf((float)s->dqk);
  const size_t rows = (size_t)s->n_layers * s->max_seqs * s->max_len * s->kv_heads;
  s->k = calloc(rows * s->dqk, sizeof(float));
  s->v = calloc(rows * s->dv, sizeof(float));
  s->scores = calloc(s->max_len, sizeof(float));
  s->window = calloc(s->n_layers, sizeof(int32_t));
  if (s->k == NULL || s->v == NULL || s->scores == NULL || s->window == NULL)
    return greta_close(s), fail(GRETA_OUT_OF_MEMORY, "no memory for %zu cache rows", rows);
  for (int32_t i = 0; i < s->n_layers; ++i) s->window[i] = c->layers[i].window;
  *session = s;
  return GRETA_OK;
}

static greta_status check_call(const greta_session *s, int32_t layer, const greta_batch *b) {
  if (s == NULL || b == NULL) return fail(GRETA_INVALID_ARGUMENT, "session or batch is NULL");
  if (layer < 0 || layer >= s->n_layers) return fail(GRETA_INVALID_ARGUMENT, "layer is %d", layer);
  if (b->struct_size < sizeof *b || b->n_seqs < 1 || b->n_tokens < 1 || b->cu_q[0] != 0)
    return fail(GRETA_INVALID_ARGUMENT, "batch holds no sequences or tokens, or is of another ABI");
  for (int32_t i = 0; i < b->n_seqs; ++i) {
    const int32_t start = b->kv_start != NULL ? b->kv_start[i] : 0, rows = b->kv_len[i];
    if (b->cu_q[i + 1] < b->cu_q[i] || b->cu_q[i + 1] > b->n_tokens)
      return fail(GRETA_INVALID_ARGUMENT, "batch.cu_q[%d] is %d", i + 1, b->cu_q[i + 1]);
    if (rows < 0 || rows > s->max_len || start < 0 || start > rows)
      return fail(GRETA_INVALID_ARGUMENT, "sequence %d has rows %d to %d of %d", i, start, rows, s->max_len);
    if (b->seq_ids[i] < 0 || b->seq_ids[i] >= s->max_seqs)
      return fail(GRETA_INVALID_ARGUMENT, "batch.seq_ids[%d] is %d", i, b->seq_ids[i]);
  }
  return b->cu_q[b->n_seqs] == b->n_tokens ? GRETA_OK : fail(GRETA_INVALID_ARGUMENT, "batch.cu_q ends too early");
}

static int usable(const greta_tensor *t) { return t != NULL && t->data != NULL && t->dtype == GRETA_F32; }
static float *row(const greta_tensor *t, int64_t token, int64_t head) {
  return (float *)t->data + token * t->token_stride + head * t->head_stride;
}

/* Of the cache, in rows of one kv head; the next slot is kv_heads rows on. */
static size_t at(const greta_session *s, int32_t layer, int32_t seq, int32_t slot, int32_t head) {
  return (((size_t)layer * s->max_seqs + seq) * s->max_len + slot) * s->kv_heads + head;
}

greta_status greta_kv_write(greta_session *s, int32_t layer, const greta_batch *b, const greta_tensor *k,
                            const greta_tensor *v) {
  const greta_status status = check_call(s, layer, b);
  if (status != GRETA_OK) return status;
  if (!usable(k) || !usable(v)) return fail(GRETA_INVALID_ARGUMENT, "k or v is no float32 tensor");
  for (int32_t t = 0; t < b->n_tokens; ++t)
    if (b->slots[t] < 0 || b->slots[t] >= s->max_len)
      return fail(GRETA_INVALID_ARGUMENT, "batch.slots[%d] is %d", t, b->slots[t]);
  for (int32_t i = 0; i < b->n_seqs; ++i)
    for (int32_t t = b->cu_q[i]; t < b->cu_q[i + 1]; ++t)
      for (int32_t h = 0; h < s->kv_heads; ++h) {
        const size_t to = at(s, layer, b->seq_ids[i], b->slots[t], h);
        memcpy(s->k + to * s->dqk, row(k, t, h), s->dqk * sizeof(float));
        memcpy(s->v + to * s->dv, row(v, t, h), s->dv * sizeof(float));
      }
  return GRETA_OK;
}

greta_status greta_kv_read(greta_session *s, int32_t layer, int32_t seq, int32_t start, int32_t count, void *k,
                           void *v) {
  if (s == NULL || k == NULL || v == NULL || layer < 0 || layer >= s->n_layers || seq < 0 || seq >= s->max_seqs)
    return fail(GRETA_INVALID_ARGUMENT, "a pointer is NULL, layer is %d or seq is %d", layer, seq);
  if (start < 0 || count < 0 || start > s->max_len || count > s->max_len - start)
    return fail(GRETA_INVALID_ARGUMENT, "rows %d and %d more of %d", start, count, s->max_len);
  const size_t from = at(s, layer, seq, start, 0), bytes = (size_t)count * s->kv_heads * sizeof(float);
  memcpy(k, s->k + from * s->dqk, bytes * s->dqk);
  memcpy(v, s->v + from * s->dv, bytes * s->dv);
  return GRETA_OK;
}

static float dot(const float *x, const float *y, int32_t n) {
  float sum = 0.0f;
  for (int32_t d = 0; d < n; ++d) sum += x[d] * y[d];
  return sum;
}

/* One query of one head over the keys first .. last; k and v are slot 0 of its kv head. Both return the lse. */
static float three_passes(greta_session *s, const float *q, const float *k, const float *v, int32_t first, int32_t last,
                          float *out) {
  float m = -INFINITY, l = 0.0f;
  for (int32_t j = first; j <= last; ++j) {
    s->scores[j] = s->scale * dot(q, k + (size_t)j * s->kv_heads * s->dqk, s->dqk);
    m = fmaxf(m, s->scores[j]);
  }
  for (int32_t j = first; j <= last; ++j) l += s->scores[j] = expf(s->scores[j] - m);
  memset(out, 0, s->dv * sizeof(float));
  for (int32_t j = first; j <= last; ++j)
    for (int32_t d = 0; d < s->dv; ++d) out[d] += s->scores[j] / l * v[(size_t)j * s->kv_heads * s->dv + d];
  return m + logf(l);
}

static float online(greta_session *s, const float *q, const float *k, const float *v, int32_t first, int32_t last,
                    float *out) {
  float m = -INFINITY, l = 0.0f;
  memset(out, 0, s->dv * sizeof(float));
  for (int32_t j = first; j <= last; ++j) {
    const float *key = k + (size_t)j * s->kv_heads * s->dqk;
    const float score = s->scale * dot(q, key, s->dqk), top = fmaxf(m, score);
    const float old = expf(m - top), p = expf(score - top);
    for (int32_t d = 0; d < s->dv; ++d) out[d] = out[d] * old + p * v[(size_t)j * s->kv_heads * s->dv + d];
    l = l * old + p, m = top;
  }
  for (int32_t d = 0; last >= first && d < s->dv; ++d) out[d] /= l;
  return m + logf(l);
}

greta_status greta_attend(greta_session *s, int32_t layer, int32_t phase, const greta_batch *b, const greta_tensor *q,
                          const greta_tensor *k_new, const greta_tensor *v_new, const greta_tensor *out,
                          const greta_tensor *lse) {
  const greta_status status = check_call(s, layer, b);
  if (status != GRETA_OK) return status;
  if (phase != GRETA_PREFILL && phase != GRETA_DECODE) return fail(GRETA_INVALID_ARGUMENT, "phase is %d", phase);
  if (!usable(q) || !usable(out) || (lse != NULL && !usable(lse)) || k_new != NULL || v_new != NULL)
    return fail(GRETA_INVALID_ARGUMENT, "q, out or lse is no float32 tensor, or k_new or v_new is given");
  for (int32_t i = 0; i < b->n_seqs; ++i)
    for (int32_t t = b->cu_q[i]; t < b->cu_q[i + 1]; ++t) {
      const int32_t last = b->kv_len[i] - b->cu_q[i + 1] + t, start = b->kv_start != NULL ? b->kv_start[i] : 0;
      const int32_t from = last - s->window[layer] + 1, first = s->window[layer] > 0 && from > start ? from : start;
      for (int32_t h = 0; h < s->heads; ++h) {
        const size_t slot0 = at(s, layer, b->seq_ids[i], 0, h / (s->heads / s->kv_heads));
        const float sum = (phase == GRETA_PREFILL ? three_passes : online)(
            s, row(q, t, h), s->k + slot0 * s->dqk, s->v + slot0 * s->dv, first, last, row(out, t, h));
        if (lse != NULL) *row(lse, t, h) = sum;
      }
    }
  return GRETA_OK;
}
