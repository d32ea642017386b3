/* The faulty twin's part of an attention call; nothing of it in the shipped library. */
#pragma once

#include "hip_session.h"

namespace greta {

using LaunchAttend = void (*)(greta_session& session, AttendParams& params, int32_t phase);

#ifdef GRETA_FAULTS
/* The call, with whatever is wrong with it. */
void attend_planted(greta_session& session, AttendParams& params, int32_t layer, int32_t phase, LaunchAttend launch);
#else
inline void attend_planted(greta_session& session, AttendParams& params, int32_t, int32_t phase, LaunchAttend launch) {
  launch(session, params, phase);
}
#endif

}  // namespace greta
