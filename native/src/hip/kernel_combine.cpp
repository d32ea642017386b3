#include "attend_naive.h"

namespace greta {

GPU_KERNEL(greta_combine, AttendParams, naive_waves, 1) {
  combine(p);
}

}  // namespace greta
