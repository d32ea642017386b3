#include "staging.h"

#include "call_checks.h"
#include "dtypes.h"
#include "errors.h"

namespace greta {
namespace {

/* Copies of the host's arrays, one after the other in one block of device memory. */
class Packed {
 public:
  /* Where the array will be, counted in int32; -1 for NULL. */
  int64_t add(const int32_t* array, size_t count) {
    if (array == nullptr) return -1;
    const auto at = static_cast<int64_t>(values_.size());
    values_.insert(values_.end(), array, array + count);
    return at;
  }
  const int32_t* upload(greta_session& session) {
    const size_t bytes = values_.size() * sizeof(int32_t);
    auto* device = static_cast<int32_t*>(session.staged_batch.reserve(bytes));
    runtime::to_device(device, values_.data(), bytes, session.stream);
    runtime::wait(session.stream); /* the copy reads values_, which goes */
    return device;
  }

 private:
  std::vector<int32_t> values_;
};

}  // namespace

BatchParams staged_batch(greta_session& session, const greta_batch* batch, bool pages) {
  const Config& config = session.config;
  if (session.on_host) {
    check_batch(config, batch);
  } else {
    check_batch_shape(config, batch);
    if (batch->max_q_len <= 0 || batch->max_q_len > config.max_len) { /* the grid is made of it */
      fail(GRETA_INVALID_ARGUMENT, "batch.max_q_len is %d, expected 1 .. max_len %d", batch->max_q_len, config.max_len);
    }
  }
  BatchParams own{};
  own.n_seqs = batch->n_seqs;
  own.n_tokens = batch->n_tokens;
  own.max_q_len = batch->max_q_len;
  own.pages_by_id = config.paged ? 0 : 1;
  if (!session.on_host) {
    own.cu_q = batch->cu_q;
    own.kv_len = batch->kv_len;
    own.kv_start = batch->kv_start;
    own.positions = batch->positions;
    own.slots = batch->slots;
    own.seq_ids = batch->seq_ids;
    own.pages = config.paged ? batch->block_table : session.tables.as<int32_t>();
    return own;
  }
  const auto n_seqs = static_cast<size_t>(batch->n_seqs), n_tokens = static_cast<size_t>(batch->n_tokens);
  const size_t blocks = config.paged && pages ? n_seqs * static_cast<size_t>(config.blocks()) : 0;
  Packed packed;
  const int64_t cu_q = packed.add(batch->cu_q, n_seqs + 1), kv_len = packed.add(batch->kv_len, n_seqs);
  const int64_t kv_start = packed.add(batch->kv_start, n_seqs), positions = packed.add(batch->positions, n_tokens);
  const int64_t slots = packed.add(batch->slots, n_tokens), seq_ids = packed.add(batch->seq_ids, n_seqs);
  const int64_t table = packed.add(batch->block_table, blocks);
  const int32_t* device = packed.upload(session);
  own.cu_q = device + cu_q;
  own.kv_len = device + kv_len;
  own.kv_start = kv_start < 0 ? nullptr : device + kv_start;
  own.positions = device + positions;
  own.slots = device + slots;
  own.seq_ids = device + seq_ids;
  own.pages = config.paged ? device + table : session.tables.as<int32_t>();
  return own;
}

Tensor Tensors::staged(const greta_tensor& tensor, int32_t n_tokens, int32_t heads, int32_t dim, bool output) {
  Tensor own{tensor.data, tensor.token_stride, tensor.head_stride};
  if (!session_.on_host) return own;
  const int64_t last = (n_tokens - 1) * tensor.token_stride + (heads - 1) * tensor.head_stride + dim;
  const size_t bytes = static_cast<size_t>(last) * dtype_size(tensor.dtype);
  own.data = session_.staged_tensors[used_++].reserve(bytes);
  runtime::to_device(own.data, tensor.data, bytes, session_.stream); /* outputs too: what lies between rows stays */
  if (output) home_.push_back({tensor.data, own.data, bytes});
  return own;
}

void Tensors::finish() {
  if (!session_.on_host) return;
  for (const Copy& copy : home_) runtime::to_host(copy.host, copy.device, copy.bytes, session_.stream);
  finish_calls(session_);
}

}  // namespace greta
