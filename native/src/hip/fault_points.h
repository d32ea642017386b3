/* Where the faulty twin goes wrong in a kernel. Elsewhere planted() is a constant false and nothing of this remains in
 * a kernel. What is another argument of a call is spoiled in fault_spoil.cpp. */
#pragma once

#include "kinds.h"
#include "params.h"
#if defined(GRETA_EMULATED) || defined(__HIP__) || defined(__CUDACC__)
#include "gpu.h" /* the host needs only the names */
#endif

namespace greta {

#if !defined(GPU_FN)
#elif defined(GRETA_FAULTS)
/* `position` is the cache row of the query. Phase and layer were looked at when the call was made. */
GPU_FN bool planted(const FaultParams& fault, Fault kind, int32_t head, int32_t position) {
  return fault.kind == static_cast<int32_t>(kind) && (fault.head == -1 || fault.head == head) &&
         (fault.position == -1 || fault.position == position);
}
#else
GPU_FN constexpr bool planted(const FaultParams&, Fault, int32_t, int32_t) {
  return false;
}
#endif

}  // namespace greta
