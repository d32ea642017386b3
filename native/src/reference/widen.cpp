/* A block of weights on its way into the products of a linear stage. */
#include <cmath>
#include <cstdint>

#include "passes_isa.h"

namespace greta_reference {
namespace GRETA_ISA {

void widen(const float* values, int64_t count, double* wide, float* magnitude) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    wide[i] = static_cast<double>(values[i]);
    magnitude[i] = std::fabs(values[i]);
  }
}

}  // namespace GRETA_ISA
}  // namespace greta_reference
