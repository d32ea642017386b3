/* Faults that are other arguments of an attention call of the kernels on a device; faults/spoil.cpp is that of the
 * CPU's. The right result is computed first. Where the fault is of some heads or positions only, the others keep it;
 * and where the two are equal to the byte, nothing was planted. */
#include <algorithm>

#include "dtypes.h"
#include "errors.h"
#include "fault_copies.h"
#include "plan.h"

namespace greta {
namespace {

/* What spoiled arguments point to on the device, for the time of a call. */
struct Spoiled {
  Buffer kv_len, pages, scales, sinks, alibi, k, v;
};

void other_lengths(const greta_session& session, const HostBatch& batch, AttendParams& params, Spoiled& to) {
  std::vector<int32_t> kv_len;
  for (const CallRows& seq : batch.rows) kv_len.push_back(upper_left(seq.q_len, seq.kv_len));
  params.batch.kv_len = put(session, to.kv_len, kv_len);
}

/* Blocks behind a sequence's end may hold anything, and keep it. */
void other_pages(const greta_session& session, const HostBatch& batch, AttendParams& params, Spoiled& to,
                 int32_t magnitude) {
  const Config& config = session.config;
  if (!config.paged) return;
  std::vector<int32_t> pages = batch.pages;
  for (const CallRows& seq : batch.rows) {
    const auto first = static_cast<size_t>(seq.pages - batch.pages.data());
    const int32_t blocks = (seq.kv_len + config.page_size - 1) / config.page_size;
    for (size_t i = first; i < first + static_cast<size_t>(blocks); ++i) {
      pages[i] = other_page(pages[i], config.n_pages, magnitude);
    }
  }
  params.batch.pages = put(session, to.pages, pages);
}

/* kv_scale: 1: the scale is left out; 2: it is the other one's, V's for K and K's for V. */
const float* other_scale(const greta_session& session, const std::vector<float>& other, Spoiled& to,
                         int32_t magnitude) {
  return put(session, to.scales, magnitude == 2 ? other : std::vector<float>(other.size(), 1.0f));
}

const float* scaled(const greta_session& session, std::vector<float> scale, Spoiled& to, double factor) {
  for (float& x : scale) x = static_cast<float>(x * factor);
  return put(session, to.scales, scale);
}

/* score_mod: 1: soft cap, sinks and bias are left out; 2: each head has the next one's, and the cap is twice as high.
 */
void other_scores(const greta_session& session, const Layer& layer, AttendParams& params, Spoiled& to,
                  int32_t magnitude) {
  if (magnitude != 2) {
    params.softcap = 0.0f;
    params.sinks = params.alibi = nullptr;
    return;
  }
  params.softcap *= 2.0f;
  const auto next = [&](const std::vector<float>& own, Buffer& room) -> const float* {
    return own.empty() ? nullptr : put(session, room, of_the_next_head(own.data(), params.n_heads));
  };
  params.sinks = next(layer.sinks, to.sinks);
  params.alibi = next(layer.alibi, to.alibi);
}

struct RowBytes {
  size_t k, v; /* of one row of one head */

  explicit RowBytes(const Config& config)
      : k(static_cast<size_t>(config.head_dim_qk) * dtype_size(config.kv_dtype)),
        v(static_cast<size_t>(config.head_dim_v) * dtype_size(config.kv_dtype)) {}
};

void late_values(const greta_session& session, const HostBatch& batch, AttendParams& params, Spoiled& to,
                 int32_t tiles) {
  const std::vector<char> right = fetched(session, params.cache.v, v_layer_bytes(session.config));
  std::vector<char> late = right;
  lag_values(session.config, batch.rows, RowBytes(session.config).v, tile_keys, tiles, right.data(), late.data());
  params.cache.v = put(session, to.v, late);
}

void without_the_newest(const greta_session& session, const HostBatch& batch, AttendParams& params, Spoiled& to) {
  const Config& config = session.config;
  const RowBytes bytes(config);
  std::vector<char> k = fetched(session, params.cache.k, k_layer_bytes(config));
  std::vector<char> v = fetched(session, params.cache.v, v_layer_bytes(config));
  drop_the_newest(config, batch.rows, bytes.k, k.data());
  drop_the_newest(config, batch.rows, bytes.v, v.data());
  params.cache.k = put(session, to.k, k);
  params.cache.v = put(session, to.v, v);
}

/* A tensor of the device in the host's memory: [n_tokens][n_heads][dim] with the strides that it has there. */
struct HostTensor {
  std::vector<char> bytes;
  greta_tensor tensor;

  HostTensor(const greta_session& session, const Tensor& device, int32_t dtype, int32_t dim, const AttendParams& params)
      : tensor{nullptr, dtype, device.token_stride, device.head_stride} {
    if (device.data == nullptr) return;
    const int64_t count =
        (params.batch.n_tokens - 1) * device.token_stride + (params.n_heads - 1) * device.head_stride + dim;
    bytes = fetched(session, static_cast<const char*>(device.data), static_cast<size_t>(count) * dtype_size(dtype));
    tensor.data = bytes.data();
  }
  HostTensor(const HostTensor&) = delete;
  HostTensor& operator=(const HostTensor&) = delete;

  bool exists() const { return tensor.data != nullptr; }
};

bool repeated(const greta_session& session, const HostBatch& batch, const AttendParams& params, int32_t layer,
              int32_t phase) {
  const HostTensor q(session, params.q, params.dtype, params.cache.dqk, params);
  const size_t bytes = static_cast<size_t>(params.cache.dqk) * dtype_size(params.dtype);
  const std::vector<char> queries = snapshot(q.tensor, params.batch.n_tokens, params.n_heads, bytes);
  return calls_before(session, layer, phase, batch.rows, queries) % 2 == 1;
}

void spoil(const greta_session& session, const HostBatch& batch, AttendParams& params, int32_t layer, int32_t phase,
           Spoiled& to) {
  const Config& config = session.config;
  const Layer& own = config.layers[static_cast<size_t>(layer)];
  const double magnitude = fault_plan.magnitude;
  const int32_t count = whole(magnitude);
  switch (static_cast<Fault>(fault_plan.kind)) {
    case Fault::kv_stale: { /* rows are one rewriting behind */
      const StaleRows* old = stale_rows(session, layer);
      if (old == nullptr) return;
      params.cache.k = put(session, to.k, old->k);
      params.cache.v = put(session, to.v, old->v);
      return;
    }
    case Fault::kv_scale_lse:
      params.k_scale = other_scale(session, own.v_scale, to, count);
      return;
    case Fault::kv_scale_attn_out:
      params.v_scale = other_scale(session, own.k_scale, to, count);
      return;
    case Fault::layer_base: { /* the pages of the layer magnitude further on; before the first there is none */
      const CacheParams other = cache_of(session, std::min(std::max(layer + count, 0), config.n_layers() - 1));
      params.cache.k = other.k;
      params.cache.v = other.v;
      return;
    }
    case Fault::page_addr:
      return other_pages(session, batch, params, to, count);
    case Fault::tile_walk:
      return late_values(session, batch, params, to, count);
    case Fault::causal_align:
      return other_lengths(session, batch, params, to);
    case Fault::window: /* magnitude keys more; none left: no window */
      if (params.window > 0) params.window = std::max(0, params.window + count);
      return;
    case Fault::score_mod:
      return other_scores(session, own, params, to, count);
    case Fault::gain_lse: /* the softmax scale times 1 + magnitude */
      params.scale = static_cast<float>(params.scale * (1.0 + magnitude));
      return;
    case Fault::gain_kv_read: /* K's scale likewise */
      params.k_scale = scaled(session, own.k_scale, to, 1.0 + magnitude);
      return;
    case Fault::gain_attn_out: /* and V's, which the output is multiplied by before it is rounded */
      params.v_scale = scaled(session, own.v_scale, to, 1.0 + magnitude);
      return;
    case Fault::race: /* of a call that is repeated. 1: whoever is ready first adds first, so that `combine` takes the
                         splits from the last on; 2: the newest row is not there yet */
      if (!repeated(session, batch, params, layer, phase)) return;
      if (count == 2) return without_the_newest(session, batch, params, to);
      params.fault = {fault_plan.kind, fault_plan.head, fault_plan.position};
      return;
    case Fault::split_merge: /* in `combine` */
      params.fault = {fault_plan.kind, fault_plan.head, fault_plan.position};
      return;
    case Fault::tail_nan:   /* after the call */
    case Fault::tile_quant: /* refused by check_place */
      return;
  }
}

/* Puts a wrong result back to the device, right where the fault is not asked for; true where a byte of it differs. */
bool settled(const greta_session& session, HostTensor& wrong, const std::vector<CallRows>& rows, int32_t n_heads,
             const std::vector<char>& right, size_t bytes, const Tensor& device) {
  if (!wrong.exists()) return false;
  const bool differs = kept(wrong.tensor, rows, n_heads, right, bytes);
  runtime::to_device(device.data, wrong.bytes.data(), wrong.bytes.size(), session.stream);
  runtime::wait(session.stream);
  return differs;
}

}  // namespace

void check_place(const FaultPlan& plan) {
  if (plan.is(Fault::tile_quant)) {
    unsupported("fault", "kind 'tile_quant'; these kernels have tiles of %d keys and no others", tile_keys);
  }
  if (plan.is(Fault::race) && whole(plan.magnitude) != 2 && plan.phase == GRETA_PREFILL) {
    unsupported("fault", "kind 'race' of another order in prefill; its kernel adds tile by tile, in one order");
  }
}

void attend_planted(greta_session& session, AttendParams& params, int32_t layer, int32_t phase, LaunchAttend launch) {
  params.fault = {no_fault, -1, -1};
  launch(session, params, phase);
  if (fault_plan.kind == no_fault || !matches(fault_plan.phase, phase) || !matches(fault_plan.layer, layer)) return;
  const int32_t n_tokens = params.batch.n_tokens, n_heads = params.n_heads, dv = params.cache.dv;
  const size_t out_bytes = static_cast<size_t>(dv) * dtype_size(params.dtype);
  std::vector<char> right_out, right_lse;
  {
    const HostTensor out(session, params.out, params.dtype, dv, params), lse(session, params.lse, GRETA_F32, 1, params);
    right_out = snapshot(out.tensor, n_tokens, n_heads, out_bytes);
    if (lse.exists()) right_lse = snapshot(lse.tensor, n_tokens, n_heads, sizeof(float));
  }
  const HostBatch batch(session, params.batch);
  Spoiled spoiled;
  AttendParams wrong = params;
  spoil(session, batch, wrong, layer, phase, spoiled);
  launch(session, wrong, phase);
  HostTensor out(session, params.out, params.dtype, dv, params), lse(session, params.lse, GRETA_F32, 1, params);
  if (fault_plan.is(Fault::tail_nan)) {
    const std::vector<char> v = fetched(session, params.cache.v, v_layer_bytes(session.config));
    add_the_tail(session.config, batch.rows, std::min(tile_keys, session.config.max_len), v.data(), out.tensor);
  }
  const bool out_differs = settled(session, out, batch.rows, n_heads, right_out, out_bytes, params.out);
  const bool lse_differs = settled(session, lse, batch.rows, n_heads, right_lse, sizeof(float), params.lse);
  if (out_differs || lse_differs) ++fault_plan.fired;
}

}  // namespace greta
