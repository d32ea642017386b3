/* The faulty twin's part of a call; nothing of it in the shipped library. */
#pragma once

#include "hip_session.h"

namespace greta {

using LaunchAttend = void (*)(greta_session& session, AttendParams& params, int32_t phase);

#ifdef GRETA_FAULTS
/* An attention call, with whatever is wrong with it. */
void attend_planted(greta_session& session, AttendParams& params, int32_t layer, int32_t phase, LaunchAttend launch);
/* The rows of this call have been written. */
void rows_written(const greta_session& session, const WriteParams& params, int32_t layer);
#else
inline void attend_planted(greta_session& session, AttendParams& params, int32_t, int32_t phase, LaunchAttend launch) {
  launch(session, params, phase);
}
inline void rows_written(const greta_session&, const WriteParams&, int32_t) {}
#endif

}  // namespace greta
