/* Where the faulty twin goes wrong. Elsewhere planted() is a constant false and nothing of this remains in a kernel. A
 * new kind is one line in the list and one `if (planted(...))` in a kernel. */
#pragma once

#include "params.h"
#if defined(GRETA_EMULATED) || defined(__HIP__) || defined(__CUDACC__)
#include "gpu.h" /* the host needs only the names */
#endif

/* split_merge: the split-KV combine adds the partial results without rescaling each by exp(m_split - m). */
#define GRETA_FAULT_KINDS(X) X(split_merge)

namespace greta {

enum class Fault {
#define GRETA_FAULT_NAME(name) name,
  GRETA_FAULT_KINDS(GRETA_FAULT_NAME)
#undef GRETA_FAULT_NAME
};

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
