/* Where the faulty twin goes wrong. In the shipped library each of these is empty and nothing of it remains. A kind
 * that is another argument of a call is spoiled in faults/spoil.cpp; only what no argument can do has a point in a
 * kernel. */
#pragma once

#include "kinds.h"

struct greta_session;

namespace greta {

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
