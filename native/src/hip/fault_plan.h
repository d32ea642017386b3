/* The faulty twin's plan, as a kernel is told of it; nothing in the shipped library. */
#pragma once

#include "params.h"

namespace greta {

#ifdef GRETA_FAULTS
FaultParams fault_of(int32_t phase, int32_t layer);
#else
inline FaultParams fault_of(int32_t, int32_t) {
  return {-1, -1, -1};
}
#endif

}  // namespace greta
