/* The one fault that is planted in this process. */
#pragma once

#include <iterator>
#include <tuple>

#include "kinds.h"

struct greta_session;

namespace greta {

constexpr int32_t no_fault = -1;

struct FaultPlan {
  int32_t kind = no_fault;
  int32_t phase = -1, layer = -1, head = -1, position = -1; /* -1: all */
  double magnitude = 0.0;
  bool suspended = false; /* while the right result is computed */
  int64_t fired = 0;      /* attention calls whose result it changed */

  bool is(Fault fault) const { return kind == static_cast<int32_t>(fault); }
};

extern FaultPlan fault_plan;

inline bool matches(int32_t asked, int32_t actual) {
  return asked == -1 || asked == actual;
}

/* Fails where these kernels have no place for the kind: the case is then not run. */
void check_place(const FaultPlan& plan);

/* What was remembered, of one session, or of all (NULL) when another fault is set. */
void forget_calls(const greta_session* session = nullptr);
void forget_rows(const greta_session* session = nullptr);

/* Erases what a map keeps by session, which the key begins with. */
template <class Map>
void forget(Map& map, const greta_session* session) {
  for (auto i = map.begin(); i != map.end();) {
    i = session == nullptr || std::get<0>(i->first) == session ? map.erase(i) : std::next(i);
  }
}

/* The layer's cache as it was before its rows were last rewritten: bases like those of AttendArgs, NULL where no row of
 * it was ever written. */
struct StaleCache {
  const char *k, *v;
};
StaleCache stale_cache(const greta_session& session, int32_t layer);

}  // namespace greta
