#include "config.h"

#include <cmath>
#include <initializer_list>

#include "dtypes.h"
#include "errors.h"
#include "threads.h"

namespace greta {
namespace {

void require_positive(const char* name, int32_t value) {
  if (value <= 0) fail(GRETA_INVALID_ARGUMENT, "%s is %d, expected 1 or more", name, value);
}

void check_dtype(const char* name, int32_t dtype) {
  if (dtype < GRETA_F32 || dtype > GRETA_FP8_E4M3FNUZ) {
    fail(GRETA_INVALID_ARGUMENT, "%s is %d, which is no greta_dtype (0 .. 4)", name, dtype);
  }
}

Schedule checked_schedule(const greta_schedule& asked, int32_t phase, int32_t max_len) {
  const char* name = phase == GRETA_PREFILL ? "prefill" : "decode";
  if (asked.tile < 0) fail(GRETA_INVALID_ARGUMENT, "schedule[%s].tile is %d, expected 0 or more", name, asked.tile);
  if (asked.splits < 0)
    fail(GRETA_INVALID_ARGUMENT, "schedule[%s].splits is %d, expected 0 or more", name, asked.splits);
  if (asked.splits > max_splits) {
    unsupported("schedule", "schedule[%s].splits is %d; this library has 1 .. %d", name, asked.splits, max_splits);
  }
  if (asked.direction < GRETA_DIRECTION_DEFAULT || asked.direction > GRETA_REVERSE) {
    fail(GRETA_INVALID_ARGUMENT, "schedule[%s].direction is %d, which is no greta_direction", name, asked.direction);
  }
  if (asked.tile_origin < GRETA_ORIGIN_DEFAULT || asked.tile_origin > GRETA_ORIGIN_WINDOW) {
    fail(GRETA_INVALID_ARGUMENT, "schedule[%s].tile_origin is %d, which is no greta_tile_origin", name,
         asked.tile_origin);
  }
  if (asked.max_update < GRETA_MAX_DEFAULT || asked.max_update > GRETA_MAX_NONE) {
    fail(GRETA_INVALID_ARGUMENT, "schedule[%s].max_update is %d, which is no greta_max_update", name, asked.max_update);
  }
  if (asked.max_update == GRETA_MAX_LAZY && !(asked.max_threshold >= 0.0f && std::isfinite(asked.max_threshold))) {
    fail(GRETA_INVALID_ARGUMENT, "schedule[%s].max_threshold is %g, expected 0 or more", name,
         static_cast<double>(asked.max_threshold));
  }
  if (asked.p_dtype < GRETA_F32 || asked.p_dtype > GRETA_FP8_E4M3FNUZ) {
    fail(GRETA_INVALID_ARGUMENT, "schedule[%s].p_dtype is %d, which is no greta_dtype (0 .. 4)", name, asked.p_dtype);
  }
  if (!(asked.p_scale >= 0.0f && asked.p_scale <= dtype_max(asked.p_dtype))) {
    fail(GRETA_INVALID_ARGUMENT, "schedule[%s].p_scale is %g, expected 0 (for 1) .. %g, the largest %s", name,
         static_cast<double>(asked.p_scale), static_cast<double>(dtype_max(asked.p_dtype)), dtype_name(asked.p_dtype));
  }
  Schedule schedule = default_schedule[phase];
  if (asked.tile != 0) schedule.tile = asked.tile;
  if (schedule.tile > max_len) schedule.tile = max_len; /* the same keys */
  if (asked.splits != 0) schedule.splits = asked.splits;
  if (asked.direction != GRETA_DIRECTION_DEFAULT) schedule.direction = asked.direction;
  if (asked.tile_origin != GRETA_ORIGIN_DEFAULT) schedule.tile_origin = asked.tile_origin;
  if (asked.max_update != GRETA_MAX_DEFAULT) schedule.max_update = asked.max_update;
  if (schedule.max_update == GRETA_MAX_LAZY) schedule.max_threshold = asked.max_threshold;
  schedule.p_dtype = asked.p_dtype;
  if (asked.p_scale != 0.0f) schedule.p_scale = asked.p_scale;
  return schedule;
}

/* A copy of an array of one layer, `missing` where it is NULL; every value must fit. */
template <class Fits>
std::vector<float> checked_array(const float* values, int32_t count, std::vector<float> missing, int32_t index,
                                 const char* name, const char* expected, Fits&& fits) {
  if (values == nullptr) return missing;
  for (int32_t i = 0; i < count; ++i) {
    if (!fits(values[i])) {
      fail(GRETA_INVALID_ARGUMENT, "layers[%d].%s[%d] is %g, expected %s", index, name, i,
           static_cast<double>(values[i]), expected);
    }
  }
  return {values, values + count};
}

/* What a layer does to its scores and to its cache. */
void check_scores(const greta_layer_config& asked, int32_t index, int32_t n_heads, int32_t n_kv_heads, int32_t max_len,
                  Layer& layer) {
  if (asked.window < 0)
    fail(GRETA_INVALID_ARGUMENT, "layers[%d].window is %d, expected 0 or more", index, asked.window);
  if (!(asked.softcap >= 0.0f && std::isfinite(asked.softcap))) {
    fail(GRETA_INVALID_ARGUMENT, "layers[%d].softcap is %g, expected 0 or more", index,
         static_cast<double>(asked.softcap));
  }
  layer.window = asked.window < max_len ? asked.window : max_len; /* the same keys */
  layer.softcap = asked.softcap;
  const std::vector<float> ones(static_cast<size_t>(n_kv_heads), 1.0f);
  const auto positive = [](float x) { return x > 0.0f && std::isfinite(x); };
  layer.k_scale = checked_array(asked.k_scale, n_kv_heads, ones, index, "k_scale", "a positive number", positive);
  layer.v_scale = checked_array(asked.v_scale, n_kv_heads, ones, index, "v_scale", "a positive number", positive);
  const auto score = [](float x) { return x < INFINITY; };
  layer.sinks = checked_array(asked.sinks, n_heads, {}, index, "sinks", "a number, or -inf for none", score);
  const auto finite = [](float x) { return std::isfinite(x); };
  layer.alibi = checked_array(asked.alibi, n_heads, {}, index, "alibi", "a number", finite);
}

Layer checked_layer(const greta_layer_config& asked, int32_t index, int32_t head_dim, int32_t n_heads,
                    int32_t n_kv_heads, int32_t max_len) {
  Layer layer{};
  check_scores(asked, index, n_heads, n_kv_heads, max_len, layer);
  const greta_rope_config& rope = asked.rope;
  if (rope.style < GRETA_ROPE_NONE || rope.style > GRETA_ROPE_INTERLEAVED) {
    fail(GRETA_INVALID_ARGUMENT, "layers[%d].rope.style is %d, which is no greta_rope_style (0 .. 2)", index,
         rope.style);
  }
  layer.rope_style = rope.style;
  if (rope.style == GRETA_ROPE_NONE) return layer;
  if (!(rope.base > 0.0 && std::isfinite(rope.base))) {
    fail(GRETA_INVALID_ARGUMENT, "layers[%d].rope.base is %g, expected a positive number", index, rope.base);
  }
  layer.rotary_dim = rope.rotary_dim == 0 ? head_dim : rope.rotary_dim;
  if (layer.rotary_dim < 0 || layer.rotary_dim > head_dim || layer.rotary_dim % 2 != 0) {
    fail(GRETA_INVALID_ARGUMENT, "layers[%d].rope.rotary_dim is %d, expected an even number up to head_dim_qk %d",
         index, layer.rotary_dim, head_dim);
  }
  for (int32_t i = 0; i < layer.rotary_dim / 2; ++i) {
    const double factor = rope.factors == nullptr ? 1.0 : rope.factors[i];
    if (!(factor > 0.0 && std::isfinite(factor))) {
      fail(GRETA_INVALID_ARGUMENT, "layers[%d].rope.factors[%d] is %g, expected a positive number", index, i, factor);
    }
    layer.inverse_frequencies.push_back(std::pow(rope.base, -2.0 * i / layer.rotary_dim) / factor);
  }
  return layer;
}

}  // namespace

Config checked_config(const greta_config* asked) {
  if (asked == nullptr) fail(GRETA_INVALID_ARGUMENT, "config is NULL");
  if (asked->struct_size != sizeof(greta_config)) {
    fail(GRETA_INVALID_ARGUMENT, "config.struct_size is %u, expected %zu", asked->struct_size, sizeof(greta_config));
  }
  if (asked->abi != GRETA_ABI_VERSION) {
    fail(GRETA_INVALID_ARGUMENT, "config.abi is %d, this library speaks %d", asked->abi, GRETA_ABI_VERSION);
  }
  require_positive("config.n_layers", asked->n_layers);
  require_positive("config.n_heads", asked->n_heads);
  require_positive("config.n_kv_heads", asked->n_kv_heads);
  require_positive("config.head_dim_qk", asked->head_dim_qk);
  require_positive("config.head_dim_v", asked->head_dim_v);
  require_positive("config.max_seqs", asked->max_seqs);
  require_positive("config.max_len", asked->max_len);
  if (asked->n_heads % asked->n_kv_heads != 0) {
    fail(GRETA_INVALID_ARGUMENT, "config.n_heads is %d, expected a multiple of n_kv_heads %d", asked->n_heads,
         asked->n_kv_heads);
  }
  const int32_t widest = asked->head_dim_qk > asked->head_dim_v ? asked->head_dim_qk : asked->head_dim_v;
  if (widest > max_head_dim) unsupported("head_dim", "%d; this library has up to %d", widest, max_head_dim);
  const int64_t group = asked->n_heads / asked->n_kv_heads;
  if (group * asked->max_len > most_rows) {
    unsupported("max_len", "%d rows for %lld heads a kv head; their product may be up to 2^30", asked->max_len,
                static_cast<long long>(group));
  }
  if (asked->page_size < 0)
    fail(GRETA_INVALID_ARGUMENT, "config.page_size is %d, expected 0 or more", asked->page_size);
  if (asked->page_size > 0) require_positive("config.n_pages", asked->n_pages);
  check_dtype("config.act_dtype", asked->act_dtype);
  check_dtype("config.kv_dtype", asked->kv_dtype);
  if (asked->act_dtype > GRETA_F16) {
    const char* name = dtype_name(asked->act_dtype);
    unsupported(name, "config.act_dtype %s; this library has f32, bf16, f16", name);
  }
  if (!std::isfinite(asked->softmax_scale)) fail(GRETA_INVALID_ARGUMENT, "config.softmax_scale is not finite");
  if (asked->memory != GRETA_MEMORY_HOST && asked->memory != GRETA_MEMORY_DEVICE) {
    fail(GRETA_INVALID_ARGUMENT, "config.memory is %d, which is no greta_memory (0, 1)", asked->memory);
  }
  if (asked->memory != GRETA_MEMORY_HOST) unsupported("memory", "device memory; this library has host memory");
  if (asked->device != 0)
    fail(GRETA_NO_DEVICE, "config.device is %d; this library has one, the CPU, number 0", asked->device);
  if (asked->stream != nullptr) unsupported("stream", "config.stream is set; a CPU session has none, pass NULL");
  if (asked->threads < 0 || asked->threads > max_threads) {
    fail(GRETA_INVALID_ARGUMENT, "config.threads is %d, expected 0 .. %d", asked->threads, max_threads);
  }
  if (asked->layers == nullptr) fail(GRETA_INVALID_ARGUMENT, "config.layers is NULL");

  Config config{};
  config.n_heads = asked->n_heads;
  config.n_kv_heads = asked->n_kv_heads;
  config.head_dim_qk = asked->head_dim_qk;
  config.head_dim_v = asked->head_dim_v;
  config.max_seqs = asked->max_seqs;
  config.max_len = asked->max_len;
  config.paged = asked->page_size > 0;
  config.page_size = config.paged ? asked->page_size : asked->max_len;
  config.n_pages = config.paged ? asked->n_pages : asked->max_seqs;
  config.act_dtype = asked->act_dtype;
  config.kv_dtype = asked->kv_dtype;
  config.softmax_scale =
      asked->softmax_scale != 0.0f ? asked->softmax_scale : static_cast<float>(1.0 / std::sqrt(asked->head_dim_qk));
  config.threads = asked->threads > 0 ? asked->threads : hardware_threads();
  for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
    config.schedule[phase] = checked_schedule(asked->schedule[phase], phase, config.max_len);
  }
  for (int32_t i = 0; i < asked->n_layers; ++i) {
    config.layers.push_back(
        checked_layer(asked->layers[i], i, config.head_dim_qk, config.n_heads, config.n_kv_heads, config.max_len));
  }
  return config;
}

}  // namespace greta
