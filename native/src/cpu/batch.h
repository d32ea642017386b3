/* A batch and its tensors, as a session reads them. */
#pragma once

#include "call_checks.h"
#include "session.h"

namespace greta {

/* The pages of sequence i of the batch; every block below ceil(rows / page_size) is a page of the cache. */
inline const int32_t* checked_pages(greta_session& session, const greta_batch& batch, int32_t i, int32_t rows) {
  if (!session.config.paged) return session.cache.table(batch.seq_ids[i]);
  return checked_pages(session.config, batch, i, rows);
}

inline char* tensor_row(const greta_tensor& tensor, size_t item_size, int64_t token, int64_t head) {
  return static_cast<char*>(tensor.data) +
         (token * tensor.token_stride + head * tensor.head_stride) * static_cast<int64_t>(item_size);
}

}  // namespace greta
