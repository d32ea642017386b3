/* Faults that are other arguments of an attention call of the CPU's kernels: another length, window, scale, page, layer
 * or tile than the caller's. The right result is computed first. Where the fault is of some heads or positions only,
 * the others keep it; and where the two are equal to the byte, nothing was planted. */
#include <algorithm>
#include <vector>

#include "dtypes.h"
#include "fault_points.h"
#include "plan.h"
#include "session.h"
#include "wrong.h"

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

std::vector<CallRows> rows_of(const AttendArgs& args) {
  std::vector<CallRows> rows;
  for (int32_t i = 0; i < args.n_seqs; ++i) {
    const Sequence& seq = args.seqs[i];
    rows.push_back({seq.first_token, seq.q_len, seq.kv_len, seq.pages});
  }
  return rows;
}

void other_lengths(AttendArgs& args, Spoiled& to) {
  to.seqs.assign(args.seqs, args.seqs + args.n_seqs);
  for (Sequence& seq : to.seqs) seq.kv_len = upper_left(seq.q_len, seq.kv_len);
  args.seqs = to.seqs.data();
}

void other_pages(const Config& config, AttendArgs& args, Spoiled& to, int32_t magnitude) {
  if (!config.paged) return;
  to.seqs.assign(args.seqs, args.seqs + args.n_seqs);
  for (Sequence& seq : to.seqs) {
    const int32_t blocks = seq.kv_len == 0 ? 0 : (seq.kv_len - 1) / config.page_size + 1;
    std::vector<int32_t> pages(seq.pages, seq.pages + blocks);
    for (int32_t& page : pages) page = other_page(page, config.n_pages, magnitude);
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
    into = of_the_next_head(own, args.n_heads);
    return into.data();
  };
  args.softcap *= 2.0f;
  args.sinks = next(args.sinks, to.sinks);
  args.alibi = next(args.alibi, to.alibi);
}

const char* copied(const greta_session& session, const char* cache, size_t bytes, std::vector<char>& to) {
  const Config& config = session.config;
  to.assign(cache, cache + static_cast<size_t>(config.n_pages) * static_cast<size_t>(config.page_size) *
                               static_cast<size_t>(config.n_kv_heads) * bytes);
  return to.data();
}

void late_values(const greta_session& session, AttendArgs& args, Spoiled& to, int32_t tiles) {
  const size_t bytes = session.cache.v_bytes();
  const char* right = args.v;
  args.v = copied(session, right, bytes, to.v);
  lag_values(session.config, rows_of(args), bytes, args.schedule.tile, tiles, right, to.v.data());
}

void without_the_newest(const greta_session& session, AttendArgs& args, Spoiled& to) {
  args.k = copied(session, args.k, session.cache.k_bytes(), to.k);
  args.v = copied(session, args.v, session.cache.v_bytes(), to.v);
  drop_the_newest(session.config, rows_of(args), session.cache.k_bytes(), to.k.data());
  drop_the_newest(session.config, rows_of(args), session.cache.v_bytes(), to.v.data());
}

bool repeated(const greta_session& session, const AttendArgs& args) {
  const size_t bytes = static_cast<size_t>(args.dqk) * dtype_size(args.act_dtype);
  const std::vector<char> queries = snapshot(args.q, args.n_tokens, args.n_heads, bytes);
  return calls_before(session, args.layer, args.phase, rows_of(args), queries) % 2 == 1;
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
      return late_values(session, args, to, count);
    case Fault::causal_align:
      return other_lengths(args, to);
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
      if (!repeated(session, args)) return;
      if (count == 2) return without_the_newest(session, args, to);
      args.schedule.direction = args.schedule.direction == GRETA_REVERSE ? GRETA_FORWARD : GRETA_REVERSE;
      return;
    case Fault::split_merge: /* in the kernel */
    case Fault::tail_nan:    /* after it */
      return;
  }
}

}  // namespace

bool planted(Fault kind, int32_t phase, int32_t layer, int32_t head, int32_t position) noexcept {
  return fault_plan.is(kind) && !fault_plan.suspended && matches(fault_plan.phase, phase) &&
         matches(fault_plan.layer, layer) && matches(fault_plan.head, head) && matches(fault_plan.position, position);
}

void check_place(const FaultPlan&) {} /* each kind has one */

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
  const std::vector<char> out = snapshot(args.out, args.n_tokens, args.n_heads, out_bytes);
  const std::vector<char> lse =
      has_lse ? snapshot(args.lse, args.n_tokens, args.n_heads, sizeof(float)) : std::vector<char>();
  AttendArgs wrong = args;
  Spoiled spoiled;
  spoil(session, wrong, spoiled);
  attend(session, wrong);
  const std::vector<CallRows> rows = rows_of(args);
  if (fault_plan.is(Fault::tail_nan)) add_the_tail(session.config, rows, args.schedule.tile, args.v, args.out);
  const bool out_differs = kept(args.out, rows, args.n_heads, out, out_bytes);
  const bool lse_differs = has_lse && kept(args.lse, rows, args.n_heads, lse, sizeof(float));
  if (out_differs || lse_differs) ++fault_plan.fired;
}

}  // namespace greta
