/* The KV cache: pages of rows, [page][kv head][slot][dim] in kv_dtype, so that one head's rows of a page are one
 * stream. A contiguous cache is one page of max_len rows a sequence with the identity table; there is no second code
 * path. */
#pragma once

#include <vector>

#include "config.h"
#include "memory.h"

namespace greta {

class Cache {
 public:
  explicit Cache(const Config& config);

  /* Address of a row of one kv head in a layer. `page` must have been checked. */
  char* k_row(int32_t layer, int32_t page, int32_t head, int32_t slot) const {
    return static_cast<char*>(k_[static_cast<size_t>(layer)].get()) + index(page, head, slot) * k_bytes_;
  }
  char* v_row(int32_t layer, int32_t page, int32_t head, int32_t slot) const {
    return static_cast<char*>(v_[static_cast<size_t>(layer)].get()) + index(page, head, slot) * v_bytes_;
  }
  size_t k_bytes() const { return k_bytes_; } /* of one row of one head */
  size_t v_bytes() const { return v_bytes_; }

  /* The pages that greta_kv_read and greta_kv_load use for a sequence: [blocks], as last given to greta_kv_write. */
  int32_t* table(int32_t seq) { return &tables_[static_cast<size_t>(seq) * static_cast<size_t>(blocks_)]; }
  /* Rows that were ever written or loaded for a sequence, less those trimmed. */
  int32_t& rows(int32_t seq) { return rows_[static_cast<size_t>(seq)]; }

 private:
  size_t index(int32_t page, int32_t head, int32_t slot) const {
    return (static_cast<size_t>(page) * n_kv_heads_ + static_cast<size_t>(head)) * page_size_ +
           static_cast<size_t>(slot);
  }

  size_t n_kv_heads_, page_size_, k_bytes_, v_bytes_;
  int32_t blocks_;
  std::vector<Block> k_, v_; /* by layer */
  std::vector<int32_t> tables_;
  std::vector<int32_t> rows_;
};

}  // namespace greta
