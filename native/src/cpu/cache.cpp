#include "cache.h"

#include "dtypes.h"

namespace greta {
namespace {

/* Bytes of one head's rows in a page from which large pages pay: of a cache that stays nearly empty at most half is
 * taken for nothing. */
constexpr size_t long_stream = size_t{4} << 20;

size_t product(size_t a, size_t b) {
  size_t result;
  if (__builtin_mul_overflow(a, b, &result)) throw std::bad_alloc();
  return result;
}

}  // namespace

Cache::Cache(const Config& config)
    : n_kv_heads_(static_cast<size_t>(config.n_kv_heads)),
      page_size_(static_cast<size_t>(config.page_size)),
      k_bytes_(static_cast<size_t>(config.head_dim_qk) * dtype_size(config.kv_dtype)),
      v_bytes_(static_cast<size_t>(config.head_dim_v) * dtype_size(config.kv_dtype)),
      blocks_(config.blocks()) {
  const size_t rows = product(product(static_cast<size_t>(config.n_pages), page_size_), n_kv_heads_);
  for (int32_t layer = 0; layer < config.n_layers(); ++layer) {
    k_.emplace_back(rows, k_bytes_);
    v_.emplace_back(rows, v_bytes_);
    if (k_bytes_ * page_size_ >= long_stream) k_.back().ask_for_large_pages(rows * k_bytes_);
    if (v_bytes_ * page_size_ >= long_stream) v_.back().ask_for_large_pages(rows * v_bytes_);
  }
  const auto n_seqs = static_cast<size_t>(config.max_seqs);
  tables_.resize(product(n_seqs, static_cast<size_t>(blocks_)));
  for (size_t i = 0; i < tables_.size(); ++i) tables_[i] = static_cast<int32_t>(i);
  rows_.resize(n_seqs, 0);
}

}  // namespace greta
