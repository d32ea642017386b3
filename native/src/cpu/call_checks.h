/* Checks of what a call brings, the same in every library here. Each fails with a line that names what is wrong. */
#pragma once

#include "config.h"

namespace greta {

void require_layer(const Config& config, int32_t layer);
void require_phase(int32_t phase);
void require_seq(const Config& config, int32_t seq);

/* Of greta_kv_read and greta_kv_load. */
void check_rows(const Config& config, int32_t layer, int32_t seq, int32_t start, int32_t count, const void* k,
                const void* v);
/* Of greta_kv_trim. */
void check_trim(const Config& config, int32_t seq, int32_t len);
/* Of greta_counters. */
void check_counters(const greta_counter* counters, int32_t capacity, const int32_t* count);
/* Of greta_attend, by a library that keeps the cache. */
void check_no_new_rows(const greta_tensor* k_new, const greta_tensor* v_new);

/* Of a batch without what its arrays hold, which may be the device's. */
void check_batch_shape(const Config& config, const greta_batch* batch);
/* Of a batch whose arrays the host can read. */
void check_batch(const Config& config, const greta_batch* batch);
/* Slots and pages of greta_kv_write as a whole, before the first row changes. */
void check_slots(const Config& config, const greta_batch& batch);
/* A tensor [n_tokens, heads, dim]; `name` is the argument's, as in the header. */
void check_tensor(const char* name, const greta_tensor* tensor, int32_t dtype, int32_t n_tokens, int32_t heads,
                  int32_t dim);
/* Row i of the block table of a paged cache; every block below ceil(rows / page_size) is a page of the cache. */
const int32_t* checked_pages(const Config& config, const greta_batch& batch, int32_t i, int32_t rows);

}  // namespace greta
