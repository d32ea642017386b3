/* Checks of what a call brings: greta_batch and greta_tensor. Each fails with a line that names the field and value. */
#pragma once

#include "session.h"

namespace greta {

void check_batch(const greta_session& session, const greta_batch* batch);
/* A tensor [n_tokens, heads, dim]; `name` is the argument's, as in the header. */
void check_tensor(const char* name, const greta_tensor* tensor, int32_t dtype, int32_t n_tokens, int32_t heads,
                  int32_t dim);
/* The pages of sequence i of the batch; every block below ceil(rows / page_size) is a page of the cache. */
const int32_t* checked_pages(greta_session& session, const greta_batch& batch, int32_t i, int32_t rows);

inline char* tensor_row(const greta_tensor& tensor, size_t item_size, int64_t token, int64_t head) {
  return static_cast<char*>(tensor.data) +
         (token * tensor.token_stride + head * tensor.head_stride) * static_cast<int64_t>(item_size);
}

}  // namespace greta
