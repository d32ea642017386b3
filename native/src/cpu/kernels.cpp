/* The table of one instruction set's kernels. Compiled once per instruction set. */
#include "kernels_isa.h"
#include "simd.h"

namespace greta {
namespace GRETA_ISA {
namespace {

void exp_array(const float* x, float* y, int32_t n) {
  for (int32_t i = 0; i + lanes <= n; i += lanes) vstore(y + i, vexp(vload(x + i)));
}

void tanh_array(const float* x, float* y, int32_t n) {
  for (int32_t i = 0; i + lanes <= n; i += lanes) vstore(y + i, vtanh(vload(x + i)));
}

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {prefill_name, decode_name, scratch_floats, prefill, decode, exp_array, tanh_array};

}  // namespace GRETA_ISA
}  // namespace greta
