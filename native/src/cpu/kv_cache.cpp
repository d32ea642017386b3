/* greta_kv_read, greta_kv_load, greta_kv_trim: rows in logical order, as raw bytes. */
#include <algorithm>

#include "call_checks.h"
#include "dtypes.h"
#include "errors.h"
#include "session.h"

namespace greta {
namespace {

int32_t checked_page(greta_session& session, int32_t seq, int32_t row) {
  const Config& config = session.config;
  const int32_t block = row / config.page_size;
  const int32_t page = session.cache.table(seq)[block];
  if (page < 0 || page >= config.n_pages) {
    fail(GRETA_INVALID_ARGUMENT, "row %d of sequence %d lies in block %d, whose page is %d, expected 0 .. %d", row, seq,
         block, page, config.n_pages - 1);
  }
  return page;
}

void check_pages(greta_session& session, int32_t seq, int32_t start, int32_t count) {
  for (int32_t row = start; row < start + count; ++row) checked_page(session, seq, row);
}

/* Calls body(cache k row, cache v row, index into the dense [count, n_kv_heads] arrays). */
template <class Body>
void each_row(greta_session& session, int32_t layer, int32_t seq, int32_t start, int32_t count, Body&& body) {
  const Config& config = session.config;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t page = checked_page(session, seq, start + i), slot = (start + i) % config.page_size;
    for (int32_t head = 0; head < config.n_kv_heads; ++head) {
      body(session.cache.k_row(layer, page, head, slot), session.cache.v_row(layer, page, head, slot),
           static_cast<size_t>(i) * static_cast<size_t>(config.n_kv_heads) + static_cast<size_t>(head));
    }
  }
}

/* Forgotten rows are zeroed, so that no later read can take them for live ones. */
void trim(greta_session& session, int32_t seq, int32_t len) {
  const Config& config = session.config;
  Cache& cache = session.cache;
  for (int32_t row = len; row < cache.rows(seq); ++row) {
    const int32_t page = cache.table(seq)[row / config.page_size], slot = row % config.page_size;
    if (page < 0 || page >= config.n_pages) continue; /* a later table no longer has the block: nothing to forget */
    for (int32_t layer = 0; layer < config.n_layers(); ++layer) {
      for (int32_t head = 0; head < config.n_kv_heads; ++head) {
        std::memset(cache.k_row(layer, page, head, slot), 0, cache.k_bytes());
        std::memset(cache.v_row(layer, page, head, slot), 0, cache.v_bytes());
      }
    }
  }
  cache.rows(seq) = std::min(cache.rows(seq), len);
}

}  // namespace
}  // namespace greta

greta_status greta_kv_read(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count, void* k,
                           void* v) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::check_rows(session->config, layer, seq, start, count, k, v);
    greta::check_pages(*session, seq, start, count);
    const size_t k_bytes = session->cache.k_bytes(), v_bytes = session->cache.v_bytes();
    greta::each_row(*session, layer, seq, start, count, [&](const char* k_row, const char* v_row, size_t index) {
      std::memcpy(static_cast<char*>(k) + index * k_bytes, k_row, k_bytes);
      std::memcpy(static_cast<char*>(v) + index * v_bytes, v_row, v_bytes);
    });
  });
}

greta_status greta_kv_load(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count,
                           const void* k, const void* v) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::check_rows(session->config, layer, seq, start, count, k, v);
    greta::check_pages(*session, seq, start, count);
    const size_t k_bytes = session->cache.k_bytes(), v_bytes = session->cache.v_bytes();
    greta::each_row(*session, layer, seq, start, count, [&](char* k_row, char* v_row, size_t index) {
      std::memcpy(k_row, static_cast<const char*>(k) + index * k_bytes, k_bytes);
      std::memcpy(v_row, static_cast<const char*>(v) + index * v_bytes, v_bytes);
    });
    int32_t& rows = session->cache.rows(seq);
    rows = std::max(rows, start + count);
  });
}

greta_status greta_kv_trim(greta_session* session, int32_t seq, int32_t len) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::check_trim(session->config, seq, len);
    greta::trim(*session, seq, len);
  });
}
