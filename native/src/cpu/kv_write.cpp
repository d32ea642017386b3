#include <algorithm>

#include "batch.h"
#include "dtypes.h"
#include "errors.h"
#include "fault_points.h"

namespace greta {
namespace {

/* act -> kv: equal types at scale 1 are copied to the bit; otherwise through f32, which holds both exactly, divided by
 * the scale, and one rounding. */
void store_row(const Config& config, const char* source, int32_t dim, float scale, char* target) {
  if (config.act_dtype == config.kv_dtype && scale == 1.0f) {
    std::memcpy(target, source, static_cast<size_t>(dim) * dtype_size(config.kv_dtype));
    return;
  }
  float row[max_head_dim];
  row_to_f32(config.act_dtype, source, dim, row);
  if (scale != 1.0f) {
    for (int32_t i = 0; i < dim; ++i) row[i] /= scale;
  }
  row_from_f32(config.kv_dtype, row, dim, target);
}

void write(greta_session& session, int32_t layer, const greta_batch& batch, const greta_tensor& k,
           const greta_tensor& v) {
  const Config& config = session.config;
  const size_t item = dtype_size(config.act_dtype);
  const Layer& own = config.layers[static_cast<size_t>(layer)];
  const int32_t blocks = config.blocks();
  for (int32_t i = 0; i < batch.n_seqs; ++i) {
    const int32_t* pages = checked_pages(session, batch, i, 0);
    int32_t& rows = session.cache.rows(batch.seq_ids[i]);
    for (int32_t token = batch.cu_q[i]; token < batch.cu_q[i + 1]; ++token) {
      const int32_t slot = batch.slots[token];
      const int32_t page = pages[slot / config.page_size], offset = slot % config.page_size;
      for (int32_t head = 0; head < config.n_kv_heads; ++head) {
        const auto h = static_cast<size_t>(head);
        store_row(config, tensor_row(k, item, token, head), config.head_dim_qk, own.k_scale[h],
                  session.cache.k_row(layer, page, head, offset));
        store_row(config, tensor_row(v, item, token, head), config.head_dim_v, own.v_scale[h],
                  session.cache.v_row(layer, page, head, offset));
      }
      row_written(session, layer, page, offset);
      rows = std::max(rows, slot + 1);
    }
    if (config.paged) std::copy_n(pages, blocks, session.cache.table(batch.seq_ids[i]));
  }
}

}  // namespace
}  // namespace greta

greta_status greta_kv_write(greta_session* session, int32_t layer, const greta_batch* batch, const greta_tensor* k,
                            const greta_tensor* v) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::require_layer(session->config, layer);
    greta::check_batch(session->config, batch);
    const greta::Config& config = session->config;
    greta::check_tensor("k", k, config.act_dtype, batch->n_tokens, config.n_kv_heads, config.head_dim_qk);
    greta::check_tensor("v", v, config.act_dtype, batch->n_tokens, config.n_kv_heads, config.head_dim_v);
    greta::check_slots(config, *batch);
    greta::write(*session, layer, *batch, *k, *v);
  });
}
