/* Checks of what a call brings: greta_batch and greta_tensor. Each fails with a line that names the field and value. */
#pragma once

#include "config.h"

namespace greta {

/* Of a batch whose arrays the host can read. */
void check_batch(const Config& config, const greta_batch* batch);
/* A tensor [n_tokens, heads, dim]; `name` is the argument's, as in the header. */
void check_tensor(const char* name, const greta_tensor* tensor, int32_t dtype, int32_t n_tokens, int32_t heads,
                  int32_t dim);
/* Row i of the block table of a paged cache; every block below ceil(rows / page_size) is a page of the cache. */
const int32_t* checked_pages(const Config& config, const greta_batch& batch, int32_t i, int32_t rows);

}  // namespace greta
