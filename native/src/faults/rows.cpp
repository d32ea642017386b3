/* Old rows for kv_stale: a copy of the cache in which each row is one rewriting behind. */
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "fault_points.h"
#include "plan.h"
#include "session.h"

namespace greta {
namespace {

/* One of K and V of one layer, laid out as the cache is. */
struct Copies {
  std::vector<char> before, latest;

  explicit Copies(size_t bytes) : before(bytes), latest(bytes) {}

  void written(size_t offset, const char* row, size_t bytes, bool again) {
    std::memcpy(&before[offset], again ? &latest[offset] : row, bytes);
    std::memcpy(&latest[offset], row, bytes);
  }
};

struct LayerCopies {
  Copies k, v;
  std::vector<bool> written; /* by page and slot */
};

std::map<std::pair<const greta_session*, int32_t>, LayerCopies> copies;

LayerCopies fresh(const greta_session& session) {
  const Config& config = session.config;
  const size_t rows = static_cast<size_t>(config.n_pages) * static_cast<size_t>(config.page_size);
  const size_t heads = static_cast<size_t>(config.n_kv_heads);
  return {Copies(rows * heads * session.cache.k_bytes()), Copies(rows * heads * session.cache.v_bytes()),
          std::vector<bool>(rows)};
}

}  // namespace

void row_written(const greta_session& session, int32_t layer, int32_t page, int32_t slot) {
  if (!fault_plan.is(Fault::kv_stale) || !matches(fault_plan.layer, layer)) return;
  const auto key = std::make_pair(&session, layer);
  auto found = copies.find(key);
  if (found == copies.end()) found = copies.emplace(key, fresh(session)).first;
  LayerCopies& copy = found->second;
  const auto row =
      static_cast<size_t>(page) * static_cast<size_t>(session.config.page_size) + static_cast<size_t>(slot);
  const Cache& cache = session.cache;
  for (int32_t head = 0; head < session.config.n_kv_heads; ++head) {
    const char *k = cache.k_row(layer, page, head, slot), *v = cache.v_row(layer, page, head, slot);
    copy.k.written(static_cast<size_t>(k - cache.k_row(layer, 0, 0, 0)), k, cache.k_bytes(), copy.written[row]);
    copy.v.written(static_cast<size_t>(v - cache.v_row(layer, 0, 0, 0)), v, cache.v_bytes(), copy.written[row]);
  }
  copy.written[row] = true;
}

StaleCache stale_cache(const greta_session& session, int32_t layer) {
  const auto found = copies.find(std::make_pair(&session, layer));
  if (found == copies.end()) return {nullptr, nullptr};
  return {found->second.k.before.data(), found->second.v.before.data()};
}

void forget_rows(const greta_session* session) {
  forget(copies, session);
}

}  // namespace greta
