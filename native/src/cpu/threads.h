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

}  // namespace
}  // namespace greta
