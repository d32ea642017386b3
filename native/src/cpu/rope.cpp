/* Rotary embedding, in place. Angles, cosines and sines in double, rounded once to f32; the rotation in f32; one
 * rounding to the activation type. One table a token, shared by all heads. */
#include <cmath>

#include "batch.h"
#include "dtypes.h"
#include "errors.h"
#include "threads.h"

namespace greta {
namespace {

struct Table {
  int32_t pairs;
  float cos[max_head_dim / 2], sin[max_head_dim / 2];
};

void fill(Table& table, const Layer& layer, int32_t position) {
  table.pairs = layer.rotary_dim / 2;
  for (int32_t i = 0; i < table.pairs; ++i) {
    const double angle = position * layer.inverse_frequencies[static_cast<size_t>(i)];
    table.cos[i] = static_cast<float>(std::cos(angle));
    table.sin[i] = static_cast<float>(std::sin(angle));
  }
}

void rotate(const Table& table, int32_t style, int32_t dtype, char* data) {
  float x[max_head_dim];
  row_to_f32(dtype, data, 2 * table.pairs, x);
  const bool half = style == GRETA_ROPE_HALF;
  const int32_t step = half ? 1 : 2, apart = half ? table.pairs : 1;
  for (int32_t i = 0; i < table.pairs; ++i) {
    float &a = x[i * step], &b = x[i * step + apart];
    const float a0 = a, b0 = b;
    a = a0 * table.cos[i] - b0 * table.sin[i];
    b = b0 * table.cos[i] + a0 * table.sin[i];
  }
  row_from_f32(dtype, x, 2 * table.pairs, data);
}

}  // namespace
}  // namespace greta

greta_status greta_rope(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                        const greta_tensor* q, const greta_tensor* k) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::require_layer(session->config, layer);
    greta::require_phase(phase);
    greta::check_batch(session->config, batch);
    const greta::Config& config = session->config;
    greta::check_tensor("q", q, config.act_dtype, batch->n_tokens, config.n_heads, config.head_dim_qk);
    greta::check_tensor("k", k, config.act_dtype, batch->n_tokens, config.n_kv_heads, config.head_dim_qk);
    const greta::Layer& own = config.layers[static_cast<size_t>(layer)];
    if (own.rope_style == GRETA_ROPE_NONE) return;
    const size_t item = greta::dtype_size(config.act_dtype);
    const int32_t style = own.rope_style, dtype = config.act_dtype;
    /* a sine and a cosine weigh as much as twenty rotations */
    const double work =
        static_cast<double>(batch->n_tokens) * own.rotary_dim * (config.n_heads + config.n_kv_heads + 20);
    [[maybe_unused]] const int threads = greta::worthwhile_threads(config.threads, work);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int32_t token = 0; token < batch->n_tokens; ++token) {
      greta::Table table;
      greta::fill(table, own, batch->positions[token]);
      for (int32_t h = 0; h < config.n_heads; ++h)
        greta::rotate(table, style, dtype, greta::tensor_row(*q, item, token, h));
      for (int32_t h = 0; h < config.n_kv_heads; ++h) {
        greta::rotate(table, style, dtype, greta::tensor_row(*k, item, token, h));
      }
    }
  });
}
