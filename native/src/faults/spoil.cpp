/* Faults that are other arguments of an attention call: another length, window, scale, page, layer or tile than the
 * caller's. The right result is computed first. Where the fault is of some heads or positions only, the others keep it;
 * and where the two are equal to the byte, nothing was planted. */
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <tuple>
#include <vector>

#include "dtypes.h"
#include "plan.h"
#include "session.h"
#include "span.h"

namespace greta {
namespace {

/* What spoiled arguments point to, for the time of a call. */
struct Spoiled {
  std::vector<Sequence> seqs;
  std::vector<std::vector<int32_t>> pages;
  std::vector<float> scales, sinks, alibi;
  std::vector<char> k, v;
};

struct Suspended {
  Suspended() { fault_plan.suspended = true; }
  ~Suspended() { fault_plan.suspended = false; }
};

int32_t whole(double magnitude) {
  return static_cast<int32_t>(std::lround(magnitude));
}

char* output_row(const greta_tensor& tensor, int32_t token, int32_t head) {
  return static_cast<char*>(tensor.data) +
         (token * tensor.token_stride + head * tensor.head_stride) * static_cast<int64_t>(dtype_size(tensor.dtype));
}

std::vector<char> snapshot(const greta_tensor& tensor, const AttendArgs& args, size_t bytes) {
  std::vector<char> rows;
  for (int32_t token = 0; token < args.n_tokens; ++token) {
    for (int32_t head = 0; head < args.n_heads; ++head) {
      const char* row = output_row(tensor, token, head);
      rows.insert(rows.end(), row, row + bytes);
    }
  }
  return rows;
}

/* causal_align: the mask hangs in the upper left corner, so that query i sees keys 0 .. i. One query is never masked.
 */
void align_to_the_upper_left(AttendArgs& args, Spoiled& to) {
  to.seqs.assign(args.seqs, args.seqs + args.n_seqs);
  for (Sequence& seq : to.seqs) {
    if (seq.q_len > 1 && seq.kv_len > seq.q_len) seq.kv_len = seq.q_len;
  }
  args.seqs = to.seqs.data();
}

/* page_addr: magnitude pages further on; a negative magnitude leaves so many low bits of the id. */
void other_pages(const Config& config, AttendArgs& args, Spoiled& to, int32_t magnitude) {
  if (!config.paged) return;
  to.seqs.assign(args.seqs, args.seqs + args.n_seqs);
  for (Sequence& seq : to.seqs) {
    const int32_t blocks = seq.kv_len == 0 ? 0 : (seq.kv_len - 1) / config.page_size + 1;
    std::vector<int32_t> pages(seq.pages, seq.pages + blocks);
    for (int32_t& page : pages) {
      page =
          magnitude > 0 ? (page + magnitude) % config.n_pages : page & ((1 << (magnitude < -30 ? 30 : -magnitude)) - 1);
    }
    to.pages.push_back(std::move(pages));
    seq.pages = to.pages.back().data();
  }
  args.seqs = to.seqs.data();
}

/* kv_scale: 1: the scale is left out; 2: it is the other one's, V's for K and K's for V. */
const float* other_scale(const AttendArgs& args, const float* other, Spoiled& to, int32_t magnitude) {
  to.scales.assign(static_cast<size_t>(args.n_kv_heads), 1.0f);
  if (magnitude == 2) to.scales.assign(other, other + args.n_kv_heads);
  return to.scales.data();
}

const float* scaled(const AttendArgs& args, const float* scale, Spoiled& to, double factor) {
  to.scales.assign(scale, scale + args.n_kv_heads);
  for (float& x : to.scales) x = static_cast<float>(x * factor);
  return to.scales.data();
}

/* score_mod: 1: soft cap, sinks and bias are left out; 2: each head has the next one's, and the cap is twice as high.
 */
void other_scores(AttendArgs& args, Spoiled& to, int32_t magnitude) {
  if (magnitude != 2) {
    args.softcap = 0.0f;
    args.sinks = args.alibi = nullptr;
    return;
  }
  const auto next = [&](const float* own, std::vector<float>& into) -> const float* {
    if (own == nullptr) return nullptr;
    for (int32_t h = 0; h < args.n_heads; ++h) into.push_back(own[(h + 1) % args.n_heads]);
    return into.data();
  };
  args.softcap *= 2.0f;
  args.sinks = next(args.sinks, to.sinks);
  args.alibi = next(args.alibi, to.alibi);
}

/* Where a row of K (or V) of one head lies behind the layer's base. */
size_t place(const greta_session& session, const Sequence& seq, int32_t row, int32_t head, size_t bytes) {
  const auto page_size = static_cast<size_t>(session.config.page_size);
  const auto page = static_cast<size_t>(seq.pages[row / session.config.page_size]);
  const size_t rows = page * static_cast<size_t>(session.config.n_kv_heads) + static_cast<size_t>(head);
  return (rows * page_size + static_cast<size_t>(row) % page_size) * bytes;
}

const char* copied(const greta_session& session, const char* cache, size_t bytes, std::vector<char>& to) {
  const Config& config = session.config;
  to.assign(cache, cache + static_cast<size_t>(config.n_pages) * static_cast<size_t>(config.page_size) *
                               static_cast<size_t>(config.n_kv_heads) * bytes);
  return to.data();
}

/* tile_walk: the loop over values lags magnitude tiles behind the loop over keys. */
void lag_values(const greta_session& session, AttendArgs& args, Spoiled& to, int32_t tiles) {
  const size_t bytes = session.cache.v_bytes();
  const char* right = args.v;
  args.v = copied(session, right, bytes, to.v);
  for (int32_t i = 0; i < args.n_seqs; ++i) {
    const Sequence& seq = args.seqs[i];
    for (int32_t row = args.schedule.tile; row < seq.kv_len; ++row) {
      const int32_t behind = std::min(tiles, row / args.schedule.tile) * args.schedule.tile;
      for (int32_t head = 0; head < args.n_kv_heads; ++head) {
        std::memcpy(&to.v[place(session, seq, row, head, bytes)],
                    right + place(session, seq, row - behind, head, bytes), bytes);
      }
    }
  }
}

/* race, 2: the kernel starts before the newest row of each sequence is written. */
void without_the_newest_row(const greta_session& session, AttendArgs& args, Spoiled& to) {
  const size_t k_bytes = session.cache.k_bytes(), v_bytes = session.cache.v_bytes();
  args.k = copied(session, args.k, k_bytes, to.k);
  args.v = copied(session, args.v, v_bytes, to.v);
  for (int32_t i = 0; i < args.n_seqs; ++i) {
    const Sequence& seq = args.seqs[i];
    for (int32_t head = 0; head < args.n_kv_heads && seq.kv_len > 0; ++head) {
      std::memset(&to.k[place(session, seq, seq.kv_len - 1, head, k_bytes)], 0, k_bytes);
      std::memset(&to.v[place(session, seq, seq.kv_len - 1, head, v_bytes)], 0, v_bytes);
    }
  }
}

/* tail_nan: the last tile goes on over rows that nobody wrote, with a weight of 0; 0 times NaN is NaN. */
void add_the_tail(const greta_session& session, const AttendArgs& args) {
  const Config& config = session.config;
  float value[max_head_dim], out[max_head_dim];
  for (int32_t i = 0; i < args.n_seqs; ++i) {
    const Sequence& seq = args.seqs[i];
    if (seq.kv_len == 0) continue;
    const int32_t tile = args.schedule.tile, page = config.page_size;
    const int32_t end = std::min({round_up(seq.kv_len, tile), round_up(seq.kv_len, page), config.max_len});
    for (int32_t row = seq.kv_len; row < end; ++row) {
      for (int32_t head = 0; head < args.n_heads; ++head) {
        const int32_t kv_head = head / (args.n_heads / args.n_kv_heads);
        row_to_f32(args.kv_dtype, session.cache.v_row(args.layer, seq.pages[row / page], kv_head, row % page), args.dv,
                   value);
        for (int32_t token = seq.first_token; token < seq.first_token + seq.q_len; ++token) {
          char* stored = output_row(args.out, token, head);
          row_to_f32(args.act_dtype, stored, args.dv, out);
          for (int32_t d = 0; d < args.dv; ++d) out[d] += 0.0f * value[d];
          row_from_f32(args.act_dtype, out, args.dv, stored);
        }
      }
    }
  }
}

/* How often this call was made before, by what it reads: session, layer, phase, lengths and queries. */
std::map<std::tuple<const greta_session*, int32_t, int32_t, uint64_t>, int64_t> calls;

int64_t calls_before(const greta_session& session, const AttendArgs& args) {
  uint64_t hash = 14695981039346656037u; /* FNV-1a */
  const auto add = [&](const void* data, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
  };
  for (int32_t i = 0; i < args.n_seqs; ++i) add(&args.seqs[i].kv_len, sizeof args.seqs[i].kv_len);
  const std::vector<char> q = snapshot(args.q, args, static_cast<size_t>(args.dqk) * dtype_size(args.act_dtype));
  add(q.data(), q.size());
  return calls[{&session, args.layer, args.phase, hash}]++;
}

void spoil(greta_session& session, AttendArgs& args, Spoiled& to) {
  const double magnitude = fault_plan.magnitude;
  const int32_t count = whole(magnitude);
  switch (static_cast<Fault>(fault_plan.kind)) {
    case Fault::kv_stale: { /* rows are one rewriting behind */
      const StaleCache old = stale_cache(session, args.layer);
      if (old.k == nullptr) return;
      args.k = old.k;
      args.v = old.v;
      return;
    }
    case Fault::kv_scale_lse:
      args.k_scale = other_scale(args, args.v_scale, to, count);
      return;
    case Fault::kv_scale_attn_out:
      args.v_scale = other_scale(args, args.k_scale, to, count);
      return;
    case Fault::layer_base: { /* the pages of the layer magnitude further on; before the first there is none */
      const int32_t other = std::min(std::max(args.layer + count, 0), session.config.n_layers() - 1);
      args.k = session.cache.k_row(other, 0, 0, 0);
      args.v = session.cache.v_row(other, 0, 0, 0);
      return;
    }
    case Fault::page_addr:
      return other_pages(session.config, args, to, count);
    case Fault::tile_walk:
      return lag_values(session, args, to, count);
    case Fault::causal_align:
      return align_to_the_upper_left(args, to);
    case Fault::window: /* magnitude keys more; none left: no window */
      if (args.window > 0) args.window = std::max(0, args.window + count);
      return;
    case Fault::score_mod:
      return other_scores(args, to, count);
    case Fault::tile_quant: /* P is rounded on tiles of magnitude keys more */
      args.schedule.tile = std::min(std::max(1, args.schedule.tile + count), session.config.max_len);
      return;
    case Fault::gain_lse: /* the softmax scale times 1 + magnitude */
      args.scale = static_cast<float>(args.scale * (1.0 + magnitude));
      return;
    case Fault::gain_kv_read: /* K's scale likewise */
      args.k_scale = scaled(args, args.k_scale, to, 1.0 + magnitude);
      return;
    case Fault::gain_attn_out: /* and V's, which the output is multiplied by before it is rounded */
      args.v_scale = scaled(args, args.v_scale, to, 1.0 + magnitude);
      return;
    case Fault::race: /* of a call that is repeated. 1: whoever is ready first adds first, so that tiles are walked the
                         other way round; 2: the newest row is not there yet */
      if (calls_before(session, args) % 2 == 0) return;
      if (count == 2) return without_the_newest_row(session, args, to);
      args.schedule.direction = args.schedule.direction == GRETA_REVERSE ? GRETA_FORWARD : GRETA_REVERSE;
      return;
    case Fault::split_merge: /* in the kernel */
    case Fault::tail_nan:    /* after it */
      return;
  }
}

/* Puts the right rows back where the fault is not asked for; true where a byte differs from the right result. */
bool kept(const greta_tensor& tensor, const AttendArgs& args, const std::vector<char>& right, size_t bytes) {
  bool differs = false;
  for (int32_t i = 0; i < args.n_seqs; ++i) {
    const Sequence& seq = args.seqs[i];
    for (int32_t query = 0; query < seq.q_len; ++query) {
      for (int32_t head = 0; head < args.n_heads; ++head) {
        const int32_t token = seq.first_token + query;
        char* row = output_row(tensor, token, head);
        const auto index = static_cast<size_t>(token) * static_cast<size_t>(args.n_heads) + static_cast<size_t>(head);
        const char* own = right.data() + index * bytes;
        if (!matches(fault_plan.head, head) || !matches(fault_plan.position, last_key(seq, query))) {
          std::memcpy(row, own, bytes);
        }
        differs = differs || std::memcmp(row, own, bytes) != 0;
      }
    }
  }
  return differs;
}

}  // namespace

void attend_planted(greta_session& session, AttendArgs& args, Attend attend) {
  const bool here = matches(fault_plan.phase, args.phase) && matches(fault_plan.layer, args.layer);
  if (fault_plan.kind == no_fault || !here) return attend(session, args);
  const size_t out_bytes = static_cast<size_t>(args.dv) * dtype_size(args.act_dtype);
  const bool has_lse = args.lse.data != nullptr;
  Counters ignored; /* the caller asked for one call */
  AttendArgs right = args;
  right.counters = &ignored;
  {
    const Suspended suspended;
    attend(session, right);
  }
  const std::vector<char> out = snapshot(args.out, args, out_bytes);
  const std::vector<char> lse = has_lse ? snapshot(args.lse, args, sizeof(float)) : std::vector<char>();
  AttendArgs wrong = args;
  Spoiled spoiled;
  spoil(session, wrong, spoiled);
  attend(session, wrong);
  if (fault_plan.is(Fault::tail_nan)) add_the_tail(session, args);
  const bool out_differs = kept(args.out, args, out, out_bytes);
  const bool lse_differs = has_lse && kept(args.lse, args, lse, sizeof(float));
  if (out_differs || lse_differs) ++fault_plan.fired;
}

void forget_calls() {
  calls.clear();
}

}  // namespace greta
