#include "wrong.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <tuple>

#include "dtypes.h"
#include "plan.h"
#include "schedule.h"

namespace greta {
namespace {

/* Where a row of K (or V) of one head lies in a layer's cache. */
size_t place(const Config& config, const CallRows& seq, int32_t row, int32_t head, size_t bytes) {
  const auto page_size = static_cast<size_t>(config.page_size);
  const auto page = static_cast<size_t>(seq.pages[row / config.page_size]);
  const size_t rows = page * static_cast<size_t>(config.n_kv_heads) + static_cast<size_t>(head);
  return (rows * page_size + static_cast<size_t>(row) % page_size) * bytes;
}

char* result_row(const greta_tensor& tensor, int32_t token, int32_t head) {
  return static_cast<char*>(tensor.data) +
         (token * tensor.token_stride + head * tensor.head_stride) * static_cast<int64_t>(dtype_size(tensor.dtype));
}

std::map<std::tuple<const greta_session*, int32_t, int32_t, uint64_t>, int64_t> calls;

}  // namespace

int32_t whole(double magnitude) {
  return static_cast<int32_t>(std::lround(magnitude));
}

int32_t upper_left(int32_t q_len, int32_t kv_len) {
  return q_len > 1 && kv_len > q_len ? q_len : kv_len;
}

int32_t other_page(int32_t page, int32_t n_pages, int32_t magnitude) {
  if (magnitude > 0) return (page + magnitude) % n_pages;
  return page & ((1 << (magnitude < -30 ? 30 : -magnitude)) - 1);
}

std::vector<float> of_the_next_head(const float* own, int32_t n_heads) {
  std::vector<float> other;
  for (int32_t head = 0; head < n_heads; ++head) other.push_back(own[(head + 1) % n_heads]);
  return other;
}

void lag_values(const Config& config, const std::vector<CallRows>& rows, size_t bytes, int32_t tile, int32_t tiles,
                const char* right, char* v) {
  for (const CallRows& seq : rows) {
    for (int32_t row = tile; row < seq.kv_len; ++row) {
      const int32_t behind = std::min(tiles, row / tile) * tile;
      for (int32_t head = 0; head < config.n_kv_heads; ++head) {
        std::memcpy(v + place(config, seq, row, head, bytes), right + place(config, seq, row - behind, head, bytes),
                    bytes);
      }
    }
  }
}

void drop_the_newest(const Config& config, const std::vector<CallRows>& rows, size_t bytes, char* cache) {
  for (const CallRows& seq : rows) {
    for (int32_t head = 0; head < config.n_kv_heads && seq.kv_len > 0; ++head) {
      std::memset(cache + place(config, seq, seq.kv_len - 1, head, bytes), 0, bytes);
    }
  }
}

void add_the_tail(const Config& config, const std::vector<CallRows>& rows, int32_t tile, const char* v,
                  const greta_tensor& out) {
  float value[max_head_dim], sum[max_head_dim];
  const int32_t dim = config.head_dim_v;
  const size_t bytes = static_cast<size_t>(dim) * dtype_size(config.kv_dtype);
  for (const CallRows& seq : rows) {
    if (seq.kv_len == 0) continue;
    const int32_t end = std::min({round_up(seq.kv_len, tile), round_up(seq.kv_len, config.page_size), config.max_len});
    for (int32_t row = seq.kv_len; row < end; ++row) {
      for (int32_t head = 0; head < config.n_heads; ++head) {
        const int32_t kv_head = head / (config.n_heads / config.n_kv_heads);
        row_to_f32(config.kv_dtype, v + place(config, seq, row, kv_head, bytes), dim, value);
        for (int32_t token = seq.first_token; token < seq.first_token + seq.q_len; ++token) {
          char* stored = result_row(out, token, head);
          row_to_f32(out.dtype, stored, dim, sum);
          for (int32_t d = 0; d < dim; ++d) sum[d] += 0.0f * value[d];
          row_from_f32(out.dtype, sum, dim, stored);
        }
      }
    }
  }
}

std::vector<char> snapshot(const greta_tensor& tensor, int32_t n_tokens, int32_t n_heads, size_t bytes) {
  std::vector<char> rows;
  for (int32_t token = 0; token < n_tokens; ++token) {
    for (int32_t head = 0; head < n_heads; ++head) {
      const char* row = result_row(tensor, token, head);
      rows.insert(rows.end(), row, row + bytes);
    }
  }
  return rows;
}

bool kept(const greta_tensor& tensor, const std::vector<CallRows>& rows, int32_t n_heads,
          const std::vector<char>& right, size_t bytes) {
  bool differs = false;
  for (const CallRows& seq : rows) {
    for (int32_t query = 0; query < seq.q_len; ++query) {
      for (int32_t head = 0; head < n_heads; ++head) {
        const int32_t token = seq.first_token + query, position = seq.kv_len - seq.q_len + query;
        char* row = result_row(tensor, token, head);
        const auto index = static_cast<size_t>(token) * static_cast<size_t>(n_heads) + static_cast<size_t>(head);
        const char* own = right.data() + index * bytes;
        if (!matches(fault_plan.head, head) || !matches(fault_plan.position, position)) std::memcpy(row, own, bytes);
        differs = differs || std::memcmp(row, own, bytes) != 0;
      }
    }
  }
  return differs;
}

int64_t calls_before(const greta_session& session, int32_t layer, int32_t phase, const std::vector<CallRows>& rows,
                     const std::vector<char>& queries) {
  uint64_t hash = 14695981039346656037u; /* FNV-1a */
  const auto add = [&](const void* data, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
  };
  for (const CallRows& seq : rows) add(&seq.kv_len, sizeof seq.kv_len);
  add(queries.data(), queries.size());
  return calls[{&session, layer, phase, hash}]++;
}

void forget_calls(const greta_session* session) {
  forget(calls, session);
}

}  // namespace greta
