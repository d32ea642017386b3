/* greta_attend: checks, scratch memory and the choice of kernel. */
#include <algorithm>

#include "batch.h"
#include "errors.h"
#include "fault_points.h"
#include "threads.h"

namespace greta {
namespace {

AttendArgs arguments(greta_session& session, int32_t layer, int32_t phase, const greta_batch& batch) {
  const Config& config = session.config;
  session.seqs.clear();
  for (int32_t i = 0; i < batch.n_seqs; ++i) {
    session.seqs.push_back({batch.cu_q[i], batch.cu_q[i + 1] - batch.cu_q[i], batch.kv_len[i],
                            batch.kv_start == nullptr ? 0 : batch.kv_start[i],
                            checked_pages(session, batch, i, batch.kv_len[i])});
  }
  AttendArgs args{};
  args.phase = phase;
  args.layer = layer;
  args.n_heads = config.n_heads;
  args.n_kv_heads = config.n_kv_heads;
  args.dqk = config.head_dim_qk;
  args.dv = config.head_dim_v;
  args.act_dtype = config.act_dtype;
  args.kv_dtype = config.kv_dtype;
  args.scale = config.softmax_scale;
  args.schedule = config.schedule[phase];
  const Layer& own = config.layers[static_cast<size_t>(layer)];
  args.window = own.window;
  args.softcap = own.softcap;
  args.k_scale = own.k_scale.data();
  args.v_scale = own.v_scale.data();
  args.sinks = own.sinks.empty() ? nullptr : own.sinks.data();
  args.alibi = own.alibi.empty() ? nullptr : own.alibi.data();
  args.n_seqs = batch.n_seqs;
  args.n_tokens = batch.n_tokens;
  args.seqs = session.seqs.data();
  args.k = session.cache.k_row(layer, 0, 0, 0);
  args.v = session.cache.v_row(layer, 0, 0, 0);
  args.page_size = config.page_size;
  double keys = 0.0; /* seen by all queries together, at most */
  for (const Sequence& seq : session.seqs) {
    keys += static_cast<double>(seq.q_len) * (own.window == 0 ? seq.kv_len : std::min(own.window, seq.kv_len));
  }
  args.threads = worthwhile_threads(config.threads, keys * config.n_heads * (config.head_dim_qk + config.head_dim_v));
  args.counters = &session.counters;
  return args;
}

void run(greta_session& session, AttendArgs& args) {
  const Kernels& kernels = *session.isa->kernels;
  args.scratch_stride = kernels.scratch_floats(args);
  args.scratch = session.scratch.reserve(args.scratch_stride * static_cast<size_t>(args.threads));
  if (args.phase == GRETA_PREFILL) {
    kernels.prefill(args);
    return;
  }
  args.partials =
      session.partials.reserve(static_cast<size_t>(args.schedule.splits) * static_cast<size_t>(args.n_tokens) *
                               static_cast<size_t>(args.n_heads) * static_cast<size_t>(partial_stride(args.dv)));
  kernels.decode(args);
}

}  // namespace
}  // namespace greta

greta_status greta_attend(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                          const greta_tensor* q, const greta_tensor* k_new, const greta_tensor* v_new,
                          const greta_tensor* out, const greta_tensor* lse) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::require_layer(session->config, layer);
    greta::require_phase(phase);
    greta::check_batch(session->config, batch);
    const greta::Config& config = session->config;
    greta::check_tensor("q", q, config.act_dtype, batch->n_tokens, config.n_heads, config.head_dim_qk);
    greta::check_no_new_rows(k_new, v_new);
    greta::check_tensor("out", out, config.act_dtype, batch->n_tokens, config.n_heads, config.head_dim_v);
    if (lse != nullptr) greta::check_tensor("lse", lse, GRETA_F32, batch->n_tokens, config.n_heads, 1);
    greta::AttendArgs args = greta::arguments(*session, layer, phase, *batch);
    args.q = *q;
    args.out = *out;
    if (lse != nullptr) args.lse = *lse;
    greta::attend_planted(*session, args, greta::run);
  });
}
