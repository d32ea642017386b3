#include "call_checks.h"

#include "dtypes.h"
#include "errors.h"

namespace greta {
namespace {

void require_array(const char* name, const int32_t* array) {
  if (array == nullptr) fail(GRETA_INVALID_ARGUMENT, "batch.%s is NULL", name);
}

}  // namespace

void require_layer(const Config& config, int32_t layer) {
  const int32_t n = config.n_layers();
  if (layer < 0 || layer >= n) fail(GRETA_INVALID_ARGUMENT, "layer is %d, expected 0 .. %d", layer, n - 1);
}

void require_phase(int32_t phase) {
  if (phase != GRETA_PREFILL && phase != GRETA_DECODE) {
    fail(GRETA_INVALID_ARGUMENT, "phase is %d, expected 0 (prefill) or 1 (decode)", phase);
  }
}

void require_seq(const Config& config, int32_t seq) {
  const int32_t n = config.max_seqs;
  if (seq < 0 || seq >= n) fail(GRETA_INVALID_ARGUMENT, "seq is %d, expected 0 .. %d", seq, n - 1);
}

void check_rows(const Config& config, int32_t layer, int32_t seq, int32_t start, int32_t count, const void* k,
                const void* v) {
  require_layer(config, layer);
  require_seq(config, seq);
  const int32_t max_len = config.max_len;
  if (start < 0 || start > max_len)
    fail(GRETA_INVALID_ARGUMENT, "start is %d, expected 0 .. max_len %d", start, max_len);
  if (count < 0 || count > max_len - start) {
    fail(GRETA_INVALID_ARGUMENT, "count is %d from row %d, expected 0 .. %d (max_len %d)", count, start,
         max_len - start, max_len);
  }
  if (k == nullptr) fail(GRETA_INVALID_ARGUMENT, "k is NULL");
  if (v == nullptr) fail(GRETA_INVALID_ARGUMENT, "v is NULL");
}

void check_trim(const Config& config, int32_t seq, int32_t len) {
  require_seq(config, seq);
  const int32_t max_len = config.max_len;
  if (len < 0 || len > max_len) fail(GRETA_INVALID_ARGUMENT, "len is %d, expected 0 .. max_len %d", len, max_len);
}

void check_counters(const greta_counter* counters, int32_t capacity, const int32_t* count) {
  if (count == nullptr) fail(GRETA_INVALID_ARGUMENT, "count is NULL");
  if (capacity < 0) fail(GRETA_INVALID_ARGUMENT, "capacity is %d, expected 0 or more", capacity);
  if (counters == nullptr && capacity > 0) {
    fail(GRETA_INVALID_ARGUMENT, "counters is NULL with capacity %d", capacity);
  }
}

void check_no_new_rows(const greta_tensor* k_new, const greta_tensor* v_new) {
  if (k_new == nullptr && v_new == nullptr) return;
  fail(GRETA_INVALID_ARGUMENT, "%s is set, expected NULL: this library attends over its own cache",
       k_new != nullptr ? "k_new" : "v_new");
}

void check_batch_shape(const Config& config, const greta_batch* batch) {
  if (batch == nullptr) fail(GRETA_INVALID_ARGUMENT, "batch is NULL");
  if (batch->struct_size != sizeof(greta_batch)) {
    fail(GRETA_INVALID_ARGUMENT, "batch.struct_size is %u, expected %zu", batch->struct_size, sizeof(greta_batch));
  }
  if (batch->n_seqs <= 0) fail(GRETA_INVALID_ARGUMENT, "batch.n_seqs is %d, expected 1 or more", batch->n_seqs);
  if (batch->n_tokens <= 0) fail(GRETA_INVALID_ARGUMENT, "batch.n_tokens is %d, expected 1 or more", batch->n_tokens);
  require_array("cu_q", batch->cu_q);
  require_array("kv_len", batch->kv_len);
  require_array("positions", batch->positions);
  require_array("slots", batch->slots);
  require_array("seq_ids", batch->seq_ids);
  if (config.paged) require_array("block_table", batch->block_table);
}

void check_batch(const Config& config, const greta_batch* batch) {
  check_batch_shape(config, batch);
  if (batch->cu_q[0] != 0) fail(GRETA_INVALID_ARGUMENT, "batch.cu_q[0] is %d, expected 0", batch->cu_q[0]);
  for (int32_t i = 0; i < batch->n_seqs; ++i) {
    const int32_t begin = batch->cu_q[i], end = batch->cu_q[i + 1];
    if (end < begin || end > batch->n_tokens) {
      fail(GRETA_INVALID_ARGUMENT, "batch.cu_q[%d] is %d after %d, expected ascending values up to n_tokens %d", i + 1,
           end, begin, batch->n_tokens);
    }
    const int32_t q_len = end - begin, kv_len = batch->kv_len[i];
    if (kv_len < 0 || kv_len > config.max_len) {
      fail(GRETA_INVALID_ARGUMENT, "batch.kv_len[%d] is %d, expected 0 .. max_len %d", i, kv_len, config.max_len);
    }
    if (q_len > config.max_len) { /* kv_len may be the smaller: queries before the first row see nothing */
      fail(GRETA_INVALID_ARGUMENT, "batch.cu_q gives sequence %d %d queries, expected up to max_len %d", i, q_len,
           config.max_len);
    }
    if (q_len > batch->max_q_len) {
      fail(GRETA_INVALID_ARGUMENT, "batch.max_q_len is %d, but sequence %d has %d queries", batch->max_q_len, i, q_len);
    }
    if (kv_len > batch->max_kv_len) {
      fail(GRETA_INVALID_ARGUMENT, "batch.max_kv_len is %d, but kv_len[%d] is %d", batch->max_kv_len, i, kv_len);
    }
    if (batch->kv_start != nullptr && (batch->kv_start[i] < 0 || batch->kv_start[i] > kv_len)) {
      fail(GRETA_INVALID_ARGUMENT, "batch.kv_start[%d] is %d, expected 0 .. kv_len %d", i, batch->kv_start[i], kv_len);
    }
    if (batch->seq_ids[i] < 0 || batch->seq_ids[i] >= config.max_seqs) {
      fail(GRETA_INVALID_ARGUMENT, "batch.seq_ids[%d] is %d, expected 0 .. %d", i, batch->seq_ids[i],
           config.max_seqs - 1);
    }
  }
  if (batch->cu_q[batch->n_seqs] != batch->n_tokens) {
    fail(GRETA_INVALID_ARGUMENT, "batch.cu_q[%d] is %d, expected n_tokens %d", batch->n_seqs,
         batch->cu_q[batch->n_seqs], batch->n_tokens);
  }
}

void check_slots(const Config& config, const greta_batch& batch) {
  for (int32_t i = 0; i < batch.n_seqs; ++i) {
    for (int32_t token = batch.cu_q[i]; token < batch.cu_q[i + 1]; ++token) {
      const int32_t slot = batch.slots[token];
      if (slot < 0 || slot >= config.max_len) {
        fail(GRETA_INVALID_ARGUMENT, "batch.slots[%d] is %d, expected 0 .. %d", token, slot, config.max_len - 1);
      }
      if (!config.paged) continue;
      const int32_t block = slot / config.page_size;
      const int32_t page = batch.block_table[static_cast<int64_t>(i) * config.blocks() + block];
      if (page < 0 || page >= config.n_pages) {
        fail(GRETA_INVALID_ARGUMENT, "batch.block_table[%d][%d] is page %d, expected 0 .. %d", i, block, page,
             config.n_pages - 1);
      }
    }
  }
}

void check_tensor(const char* name, const greta_tensor* tensor, int32_t dtype, int32_t n_tokens, int32_t heads,
                  int32_t dim) {
  if (tensor == nullptr) fail(GRETA_INVALID_ARGUMENT, "%s is NULL", name);
  if (tensor->data == nullptr) fail(GRETA_INVALID_ARGUMENT, "%s.data is NULL", name);
  if (tensor->dtype != dtype) {
    fail(GRETA_INVALID_ARGUMENT, "%s.dtype is %s (%d), expected %s", name, dtype_name(tensor->dtype), tensor->dtype,
         dtype_name(dtype));
  }
  if (reinterpret_cast<uintptr_t>(tensor->data) % dtype_size(dtype) != 0) {
    fail(GRETA_INVALID_ARGUMENT, "%s.data is not aligned to its items of %zu bytes", name, dtype_size(dtype));
  }
  constexpr int64_t widest = int64_t{1} << 40; /* keeps every offset far from overflow */
  if (tensor->head_stride > widest || tensor->token_stride > widest) {
    fail(GRETA_INVALID_ARGUMENT, "%s has strides %lld, %lld, beyond 2^40 elements", name,
         static_cast<long long>(tensor->token_stride), static_cast<long long>(tensor->head_stride));
  }
  const bool heads_inside =
      tensor->head_stride >= dim && tensor->token_stride >= (heads - 1) * tensor->head_stride + dim;
  const bool tokens_inside =
      tensor->token_stride >= dim && tensor->head_stride >= (n_tokens - 1) * tensor->token_stride + dim;
  if (!heads_inside && !tokens_inside) {
    fail(GRETA_INVALID_ARGUMENT,
         "%s has token_stride %lld and head_stride %lld, too small for [%d tokens, %d heads, %d] without overlap", name,
         static_cast<long long>(tensor->token_stride), static_cast<long long>(tensor->head_stride), n_tokens, heads,
         dim);
  }
}

const int32_t* checked_pages(const Config& config, const greta_batch& batch, int32_t i, int32_t rows) {
  const int32_t blocks = config.blocks();
  const int32_t* pages = batch.block_table + static_cast<int64_t>(i) * blocks;
  for (int32_t block = 0; block < blocks && static_cast<int64_t>(block) * config.page_size < rows; ++block) {
    if (pages[block] < 0 || pages[block] >= config.n_pages) {
      fail(GRETA_INVALID_ARGUMENT, "batch.block_table[%d][%d] is page %d, expected 0 .. %d", i, block, pages[block],
           config.n_pages - 1);
    }
  }
  return pages;
}

}  // namespace greta
