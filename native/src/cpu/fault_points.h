/* Where the faulty twin goes wrong. In the shipped library each of these is empty and nothing of it remains. A kind
 * that is another argument of a call is spoiled in faults/spoil.cpp; only what no argument can do has a point in a
 * kernel. */
#pragma once

#include <cstdint>

struct greta_session;

namespace greta {

/* What each does, and what its magnitude means, stands at its place in faults/spoil.cpp.
 * split_merge: the split-KV combine adds the partial results without rescaling each by exp(m_split - m). */
// clang-format off
#define GRETA_FAULT_KINDS(X) \
  X(kv_stale) X(kv_scale_lse) X(kv_scale_attn_out) X(layer_base) X(page_addr) X(tile_walk) X(causal_align) X(window) \
  X(score_mod) X(split_merge) X(tile_quant) X(tail_nan) X(gain_lse) X(gain_kv_read) X(gain_attn_out) X(race)
// clang-format on

enum class Fault : int32_t {
#define GRETA_FAULT_NAME(name) name,
  GRETA_FAULT_KINDS(GRETA_FAULT_NAME)
#undef GRETA_FAULT_NAME
};

struct AttendArgs;
using Attend = void (*)(greta_session&, AttendArgs&);

#ifdef GRETA_FAULTS
/* In a kernel. `position` is the cache row of the query. */
bool planted(Fault kind, int32_t phase, int32_t layer, int32_t head, int32_t position) noexcept;
/* One attention call, with whatever is wrong with it. */
void attend_planted(greta_session& session, AttendArgs& args, Attend attend);
/* The rows of all kv heads at this place hold new bytes. */
void row_written(const greta_session& session, int32_t layer, int32_t page, int32_t slot);
constexpr bool has_faults = true;
#else
namespace {
constexpr bool planted(Fault, int32_t, int32_t, int32_t, int32_t) {
  return false;
}
inline void attend_planted(greta_session& session, AttendArgs& args, Attend attend) {
  attend(session, args);
}
inline void row_written(const greta_session&, int32_t, int32_t, int32_t) {}
}  // namespace
constexpr bool has_faults = false;
#endif

}  // namespace greta
