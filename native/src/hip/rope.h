/* Rotary embedding in place. A block turns all heads of one token: angles, sines and cosines in double, rounded once to
 * float; the rotation in float; one rounding to the activation type. */
#pragma once

#include "rows.h"

namespace greta {

constexpr int max_pairs = 128;

GPU_FN void rope_heads(const Tensor& tensor, const RopeParams& p, int32_t heads, const float* cosines,
                       const float* sines) {
  const int32_t token = gpu::block_x();
  const int32_t step = p.interleaved != 0 ? 2 : 1, apart = p.interleaved != 0 ? 1 : p.pairs;
  for (int32_t i = gpu::thread(); i < heads * p.pairs; i += rope_waves * gpu::wave) {
    const int32_t head = i / p.pairs, pair = i % p.pairs;
    const int64_t first = element(tensor, token, head) + pair * step, second = first + apart;
    const float a = load(tensor.data, p.dtype, first), b = load(tensor.data, p.dtype, second);
    store(tensor.data, p.dtype, first, a * cosines[pair] - b * sines[pair]);
    store(tensor.data, p.dtype, second, b * cosines[pair] + a * sines[pair]);
  }
}

GPU_FN void rope(const RopeParams& p) {
  GPU_SHARED(float, cosines, max_pairs);
  GPU_SHARED(float, sines, max_pairs);
  const double position = p.batch.positions[gpu::block_x()];
  for (int32_t i = gpu::thread(); i < p.pairs; i += rope_waves * gpu::wave) {
    double sine, cosine;
    sine_cosine(position * p.inverse_frequencies[i], sine, cosine);
    cosines[i] = static_cast<float>(cosine);
    sines[i] = static_cast<float>(sine);
  }
  gpu::sync(); /* the table is complete */
  rope_heads(p.q, p, p.n_heads, cosines, sines);
  rope_heads(p.k, p, p.n_kv_heads, cosines, sines);
}

}  // namespace greta
