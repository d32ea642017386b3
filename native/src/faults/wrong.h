/* What faults make of rows, pages, lengths and results: the same for the kernels of every library. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config.h"

namespace greta {

/* The queries and rows of one sequence of a call. */
struct CallRows {
  int32_t first_token, q_len, kv_len;
  const int32_t* pages;
};

int32_t whole(double magnitude);

/* causal_align: the mask hangs in the upper left corner, so that query i sees keys 0 .. i. One query is never masked.
 */
int32_t upper_left(int32_t q_len, int32_t kv_len);

/* page_addr: magnitude pages further on; a negative magnitude leaves so many low bits of the id. */
int32_t other_page(int32_t page, int32_t n_pages, int32_t magnitude);

/* score_mod: each head has the next one's. */
std::vector<float> of_the_next_head(const float* own, int32_t n_heads);

/* tile_walk: the loop over values lags so many tiles behind the loop over keys. `v`: the layer's cache, `right` before
 * that; `bytes`: of a row of one head. */
void lag_values(const Config& config, const std::vector<CallRows>& rows, size_t bytes, int32_t tile, int32_t tiles,
                const char* right, char* v);

/* race, 2: the kernel starts before the newest row of each sequence is written. `cache`: K or V of the layer. */
void drop_the_newest(const Config& config, const std::vector<CallRows>& rows, size_t bytes, char* cache);

/* tail_nan: the last tile goes on over rows that nobody wrote, with a weight of 0; 0 times NaN is NaN. `v`: the layer's
 * cache; `out`: what the call gave. */
void add_the_tail(const Config& config, const std::vector<CallRows>& rows, int32_t tile, const char* v,
                  const greta_tensor& out);

/* The rows of a result, `bytes` each, [n_tokens][n_heads]. */
std::vector<char> snapshot(const greta_tensor& tensor, int32_t n_tokens, int32_t n_heads, size_t bytes);

/* Puts the right rows back where the fault that is planted is not asked for; true where a byte differs from the right
 * result. */
bool kept(const greta_tensor& tensor, const std::vector<CallRows>& rows, int32_t n_heads,
          const std::vector<char>& right, size_t bytes);

/* race: how often this call was made before, by what it reads. */
int64_t calls_before(const greta_session& session, int32_t layer, int32_t phase, const std::vector<CallRows>& rows,
                     const std::vector<char>& queries);

}  // namespace greta
