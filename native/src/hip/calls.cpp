/* The functions of the ABI that launch kernels. */
#include "call_checks.h"
#include "dtypes.h"
#include "errors.h"
#include "fault_calls.h"
#include "staging.h"

namespace greta {
namespace {

const Layer& layer_of(const greta_session& session, int32_t layer) {
  return session.config.layers[static_cast<size_t>(layer)];
}
const DeviceLayer& device_layer(const greta_session& session, int32_t layer) {
  return session.layers[static_cast<size_t>(layer)];
}

void rope_call(greta_session& session, int32_t layer, const greta_batch* batch, const greta_tensor* q,
               const greta_tensor* k) {
  const Config& config = session.config;
  RopeParams params{};
  params.batch = staged_batch(session, batch, false);
  check_tensor("q", q, config.act_dtype, batch->n_tokens, config.n_heads, config.head_dim_qk);
  check_tensor("k", k, config.act_dtype, batch->n_tokens, config.n_kv_heads, config.head_dim_qk);
  const Layer& own = layer_of(session, layer);
  if (own.rope_style == GRETA_ROPE_NONE) return;
  Tensors tensors(session);
  params.q = tensors.output(*q, batch->n_tokens, config.n_heads, config.head_dim_qk);
  params.k = tensors.output(*k, batch->n_tokens, config.n_kv_heads, config.head_dim_qk);
  params.dtype = config.act_dtype;
  params.n_heads = config.n_heads;
  params.n_kv_heads = config.n_kv_heads;
  params.pairs = own.rotary_dim / 2;
  params.interleaved = own.rope_style == GRETA_ROPE_INTERLEAVED ? 1 : 0;
  params.inverse_frequencies = device_layer(session, layer).inverse_frequencies.as<double>();
  runtime::launch(session.functions.rope, {batch->n_tokens, 1, 1}, rope_waves, &params, session.stream);
  tensors.finish();
}

void write_call(greta_session& session, int32_t layer, const greta_batch* batch, const greta_tensor* k,
                const greta_tensor* v) {
  const Config& config = session.config;
  WriteParams params{};
  params.batch = staged_batch(session, batch, true);
  check_tensor("k", k, config.act_dtype, batch->n_tokens, config.n_kv_heads, config.head_dim_qk);
  check_tensor("v", v, config.act_dtype, batch->n_tokens, config.n_kv_heads, config.head_dim_v);
  if (session.on_host) check_slots(config, *batch);
  Tensors tensors(session);
  params.cache = cache_of(session, layer);
  params.k = tensors.input(*k, batch->n_tokens, config.n_kv_heads, config.head_dim_qk);
  params.v = tensors.input(*v, batch->n_tokens, config.n_kv_heads, config.head_dim_v);
  params.dtype = config.act_dtype;
  params.k_scale = device_layer(session, layer).k_scale.as<float>();
  params.v_scale = device_layer(session, layer).v_scale.as<float>();
  params.tables = session.tables.as<int32_t>();
  params.rows = session.rows.as<int32_t>();
  runtime::launch(session.functions.kv_write, {batch->n_tokens, config.n_kv_heads, 1}, write_waves, &params,
                  session.stream);
  rows_written(session, params, layer);
  tensors.finish();
}

AttendParams attend_params(const greta_session& session, int32_t layer, int32_t phase) {
  const Config& config = session.config;
  const Layer& own = layer_of(session, layer);
  const DeviceLayer& device = device_layer(session, layer);
  AttendParams params{};
  params.cache = cache_of(session, layer);
  params.dtype = config.act_dtype;
  params.n_heads = config.n_heads;
  params.group = config.n_heads / config.n_kv_heads;
  params.round_p = phase == GRETA_PREFILL ? 1 : 0;
  params.window = own.window;
  params.splits = config.schedule[phase].splits;
  params.scale = config.softmax_scale;
  params.softcap = own.softcap;
  params.k_scale = device.k_scale.as<float>();
  params.v_scale = device.v_scale.as<float>();
  params.sinks = device.sinks.as<float>();
  params.alibi = device.alibi.as<float>();
  return params;
}

void launch_attend(greta_session& session, AttendParams& params, int32_t phase) {
  const Functions& f = session.functions;
  const int32_t n_seqs = params.batch.n_seqs, queries = params.batch.max_q_len, heads = params.n_heads;
  const int32_t kv_heads = params.cache.n_kv_heads, rows = queries * params.group;
  const bool naive = session.choice == KernelChoice::naive;
  if (phase == GRETA_PREFILL) {
    if (naive) {
      runtime::launch(f.prefill, {queries, heads, n_seqs}, naive_waves, &params, session.stream);
    } else {
      const int32_t blocks = (rows + flash_rows - 1) / flash_rows;
      runtime::launch(f.prefill, {blocks, kv_heads, n_seqs}, flash_waves, &params, session.stream);
    }
    return;
  }
  const size_t partial = static_cast<size_t>(params.splits) * static_cast<size_t>(params.batch.n_tokens) *
                         static_cast<size_t>(heads) * static_cast<size_t>(2 + params.cache.dv);
  params.partials = static_cast<float*>(session.partials.reserve(partial * sizeof(float)));
  if (naive) {
    runtime::launch(f.decode[0], {queries * params.splits, heads, n_seqs}, naive_waves, &params, session.stream);
  } else {
    const size_t size = rows <= decode_rows[0] ? 0 : rows <= decode_rows[1] ? 1 : 2;
    const int32_t groups = (rows + decode_rows[size] - 1) / decode_rows[size];
    runtime::launch(f.decode[size], {params.splits, kv_heads * groups, n_seqs}, decode_waves, &params, session.stream);
  }
  runtime::launch(f.combine, {queries, heads, n_seqs}, naive_waves, &params, session.stream);
}

void attend_call(greta_session& session, int32_t layer, int32_t phase, const greta_batch* batch, const greta_tensor* q,
                 const greta_tensor* out, const greta_tensor* lse) {
  const Config& config = session.config;
  AttendParams params = attend_params(session, layer, phase);
  params.batch = staged_batch(session, batch, true);
  if (session.on_host && config.paged) {
    for (int32_t i = 0; i < batch->n_seqs; ++i) checked_pages(config, *batch, i, batch->kv_len[i]);
  }
  check_tensor("q", q, config.act_dtype, batch->n_tokens, config.n_heads, config.head_dim_qk);
  check_tensor("out", out, config.act_dtype, batch->n_tokens, config.n_heads, config.head_dim_v);
  if (lse != nullptr) check_tensor("lse", lse, GRETA_F32, batch->n_tokens, config.n_heads, 1);
  Tensors tensors(session);
  params.q = tensors.input(*q, batch->n_tokens, config.n_heads, config.head_dim_qk);
  params.out = tensors.output(*out, batch->n_tokens, config.n_heads, config.head_dim_v);
  if (lse != nullptr) params.lse = tensors.output(*lse, batch->n_tokens, config.n_heads, 1);
  attend_planted(session, params, layer, phase, launch_attend);
  ++session.calls[phase];
  tensors.finish();
}

void move_call(greta_session& session, int32_t layer, int32_t seq, int32_t start, int32_t count, void* k, void* v,
               bool to_cache) {
  check_rows(session.config, layer, seq, start, count, k, v);
  if (count == 0) return;
  const Config& config = session.config;
  const int32_t heads = config.n_kv_heads, dtype = config.kv_dtype;
  const greta_tensor dense[2] = {
      {k, dtype, int64_t{heads} * config.head_dim_qk, config.head_dim_qk},
      {v, dtype, int64_t{heads} * config.head_dim_v, config.head_dim_v},
  };
  Tensors tensors(session);
  MoveParams params{};
  params.cache = cache_of(session, layer);
  params.k = (to_cache ? tensors.input(dense[0], count, heads, config.head_dim_qk)
                       : tensors.output(dense[0], count, heads, config.head_dim_qk))
                 .data;
  params.v = (to_cache ? tensors.input(dense[1], count, heads, config.head_dim_v)
                       : tensors.output(dense[1], count, heads, config.head_dim_v))
                 .data;
  params.pages = pages_of(session, seq);
  params.rows = session.rows.as<int32_t>() + seq;
  params.start = start;
  params.count = count;
  params.to_cache = to_cache ? 1 : 0;
  runtime::launch(session.functions.kv_move, {count, 1, 1}, move_waves, &params, session.stream);
  tensors.finish();
}

void trim_call(greta_session& session, int32_t seq, int32_t len) {
  check_trim(session.config, seq, len);
  TrimParams params{};
  params.cache = cache_of(session, 0);
  params.k_layer = static_cast<int64_t>(k_layer_bytes(session.config));
  params.v_layer = static_cast<int64_t>(v_layer_bytes(session.config));
  params.pages = pages_of(session, seq);
  params.rows = session.rows.as<int32_t>() + seq;
  params.n_layers = session.config.n_layers();
  params.length = len;
  runtime::launch(session.functions.kv_trim, {1, 1, 1}, move_waves, &params, session.stream);
  if (session.on_host) finish_calls(session);
}

}  // namespace
}  // namespace greta

greta_status greta_rope(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                        const greta_tensor* q, const greta_tensor* k) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::require_layer(session->config, layer);
    greta::require_phase(phase);
    greta::rope_call(*session, layer, batch, q, k);
  });
}

greta_status greta_kv_write(greta_session* session, int32_t layer, const greta_batch* batch, const greta_tensor* k,
                            const greta_tensor* v) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::require_layer(session->config, layer);
    greta::write_call(*session, layer, batch, k, v);
  });
}

greta_status greta_kv_read(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count, void* k,
                           void* v) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::move_call(*session, layer, seq, start, count, k, v, false);
  });
}

greta_status greta_kv_load(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count,
                           const void* k, const void* v) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::move_call(*session, layer, seq, start, count, const_cast<void*>(k), const_cast<void*>(v), true);
  });
}

greta_status greta_kv_trim(greta_session* session, int32_t seq, int32_t len) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::trim_call(*session, seq, len);
  });
}

greta_status greta_attend(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                          const greta_tensor* q, const greta_tensor* k_new, const greta_tensor* v_new,
                          const greta_tensor* out, const greta_tensor* lse) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::require_layer(session->config, layer);
    greta::require_phase(phase);
    greta::check_no_new_rows(k_new, v_new);
    greta::attend_call(*session, layer, phase, batch, q, out, lse);
  });
}
