/* Old rows for kv_stale: what lay in each row before it was last rewritten. */
#include <cstring>
#include <map>
#include <utility>

#include "dtypes.h"
#include "fault_copies.h"
#include "plan.h"

namespace greta {
namespace {

struct Memory {
  StaleRows before, latest;
  std::vector<bool> written; /* by page and slot */
};

std::map<std::pair<const greta_session*, int32_t>, Memory> memories;

/* Moves one row of one head on: what it held is what is remembered of it. */
void rewritten(std::vector<char>& before, std::vector<char>& latest, const std::vector<char>& now, size_t index,
               size_t bytes, bool again) {
  const std::vector<char>& old = again ? latest : now;
  std::memcpy(&before[index * bytes], &old[index * bytes], bytes);
  std::memcpy(&latest[index * bytes], &now[index * bytes], bytes);
}

}  // namespace

HostBatch::HostBatch(const greta_session& session, const BatchParams& batch) {
  const Config& config = session.config;
  const auto n = static_cast<size_t>(batch.n_seqs), blocks = static_cast<size_t>(config.blocks());
  const std::vector<int32_t> cu_q = fetched(session, batch.cu_q, n + 1), kv_len = fetched(session, batch.kv_len, n);
  const std::vector<int32_t> ids = fetched(session, batch.seq_ids, n);
  const bool by_id = batch.pages_by_id != 0;
  pages = fetched(session, batch.pages, blocks * (by_id ? static_cast<size_t>(config.max_seqs) : n));
  for (size_t i = 0; i < n; ++i) {
    const int32_t* own = pages.data() + blocks * (by_id ? static_cast<size_t>(ids[i]) : i);
    rows.push_back({cu_q[i], cu_q[i + 1] - cu_q[i], kv_len[i], own});
  }
}

void rows_written(const greta_session& session, const WriteParams& params, int32_t layer) {
  if (!fault_plan.is(Fault::kv_stale) || !matches(fault_plan.layer, layer)) return;
  const Config& config = session.config;
  const HostBatch batch(session, params.batch);
  const auto slots = fetched(session, params.batch.slots, static_cast<size_t>(params.batch.n_tokens));
  const auto heads = static_cast<size_t>(config.n_kv_heads), page_size = static_cast<size_t>(config.page_size);
  const StaleRows now{fetched(session, params.cache.k, k_layer_bytes(config)),
                      fetched(session, params.cache.v, v_layer_bytes(config))};
  const size_t k_bytes = static_cast<size_t>(config.head_dim_qk) * dtype_size(config.kv_dtype);
  const size_t v_bytes = static_cast<size_t>(config.head_dim_v) * dtype_size(config.kv_dtype);
  Memory& memory = memories[{&session, layer}];
  if (memory.before.k.size() != now.k.size()) {
    memory = {};
    memory.before = memory.latest = {std::vector<char>(now.k.size()), std::vector<char>(now.v.size())};
    memory.written.resize(static_cast<size_t>(config.n_pages) * page_size);
  }
  for (const CallRows& seq : batch.rows) {
    for (int32_t token = seq.first_token; token < seq.first_token + seq.q_len; ++token) {
      const int32_t slot = slots[static_cast<size_t>(token)];
      const auto page = static_cast<size_t>(seq.pages[slot / config.page_size]);
      const size_t offset = static_cast<size_t>(slot) % page_size, row = page * page_size + offset;
      for (size_t head = 0; head < heads; ++head) {
        const size_t index = (page * heads + head) * page_size + offset;
        rewritten(memory.before.k, memory.latest.k, now.k, index, k_bytes, memory.written[row]);
        rewritten(memory.before.v, memory.latest.v, now.v, index, v_bytes, memory.written[row]);
      }
      memory.written[row] = true;
    }
  }
}

const StaleRows* stale_rows(const greta_session& session, int32_t layer) {
  const auto found = memories.find({&session, layer});
  return found == memories.end() ? nullptr : &found->second.before;
}

void forget_rows(const greta_session* session) {
  forget(memories, session);
}

}  // namespace greta
