/* greta_config, checked and copied. */
#pragma once

#include <vector>

#include "greta_attn.h"
#include "schedule.h"

namespace greta {

constexpr int32_t max_head_dim = 256;
constexpr int32_t max_splits = 64;
constexpr int64_t most_rows = int64_t{1} << 30; /* of queries of one kv head; keeps int32 row numbers safe */
constexpr int32_t max_threads = 1024;

struct Layer {
  int32_t rope_style;
  int32_t rotary_dim;
  std::vector<double> inverse_frequencies; /* [rotary_dim / 2], radians a position */
  int32_t window;                          /* 0: all keys */
  float softcap;                           /* 0: none */
  std::vector<float> k_scale, v_scale;     /* [n_kv_heads] */
  std::vector<float> sinks, alibi;         /* [n_heads] or empty */
};

struct Config {
  int32_t n_heads, n_kv_heads, head_dim_qk, head_dim_v;
  int32_t max_seqs, max_len;
  bool paged;
  int32_t page_size; /* max_len where the cache is contiguous: one page a sequence */
  int32_t n_pages;
  int32_t act_dtype, kv_dtype;
  float softmax_scale;
  int32_t threads;
  Schedule schedule[2];
  std::vector<Layer> layers;

  int32_t blocks() const { return (max_len - 1) / page_size + 1; }
  int32_t n_layers() const { return static_cast<int32_t>(layers.size()); }
};

/* Fails with a line that names the field, its value and what was expected. */
Config checked_config(const greta_config* config);

}  // namespace greta
