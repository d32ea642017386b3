/* OpenMP where the compiler has it, one thread otherwise. Internal linkage: see dtypes.h. */
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace greta {
namespace {

#ifdef _OPENMP
inline int hardware_threads() {
  return omp_get_max_threads();
}
inline int thread_index() {
  return omp_get_thread_num();
}
#else
inline int hardware_threads() {
  return 1;
}
inline int thread_index() {
  return 0;
}
#endif

/* Threads that `work` multiplications are worth: waking a team costs more than a small call, most of all on a machine
 * whose cores are busy. Results do not depend on it. */
inline int worthwhile_threads(int threads, double work) {
  const double most = 1.0 + work / 8e6;
  return most < threads ? static_cast<int>(most) : threads;
}

}  // namespace
}  // namespace greta
