/* The end of a row: the one place of the kernels where the faulty twin differs. Compiled once per instruction set. */
#include <math.h>

#include "fault_points.h"
#include "kernels_isa.h"
#include "tile.h"

namespace greta {
namespace GRETA_ISA {

void finish_row(const AttendArgs& args, const float* partials, size_t stride, int32_t token, int32_t head,
                int32_t position) {
  const int32_t splits = args.schedule.splits;
  const float sink = args.sinks == nullptr ? -INFINITY : args.sinks[head];
  float m = sink;
  for (int32_t s = 0; s < splits; ++s) {
    const float own = partials[static_cast<size_t>(s) * stride];
    m = own > m ? own : m;
  }
  const bool unscaled = planted(Fault::split_merge, args.phase, args.layer, head, position);
  float out[lanes * 16]; /* max_head_dim */
  float l = 0.0f;
  for (int32_t i = 0; i < args.dv; i += lanes) vstore(out + i, vset(0.0f));
  for (int32_t s = 0; s < splits; ++s) {
    const float* partial = partials + static_cast<size_t>(s) * stride;
    if (partial[0] == -INFINITY && partial[1] == 0.0f) continue; /* an empty split, or no key of it is seen */
    const float weight = unscaled ? 1.0f : exp1(partial[0] - m);
    l += weight * partial[1];
    for (int32_t i = 0; i < args.dv; i += lanes) {
      vstore(out + i, vfma(vset(weight), vload(accumulator(const_cast<float*>(partial)) + i), vload(out + i)));
    }
  }
  const bool empty = m == -INFINITY && l == 0.0f; /* scores that are all NaN have no max, but they were seen */
  if (sink != -INFINITY) l += exp1(sink - m);
  const float divisor = l * args.schedule.p_scale, v_scale = args.v_scale[head / (args.n_heads / args.n_kv_heads)];
  for (int32_t i = 0; i < args.dv; ++i)
    out[i] = empty ? 0.0f : out[i] / divisor * v_scale + 0.0f; /* no -0: its sign would hang on masked keys */
  row_from_f32(args.act_dtype, out, args.dv, const_cast<char*>(item(args.out, args.act_dtype, token, head)));
  if (args.lse.data != nullptr) {
    const double lse = static_cast<double>(m) + log(static_cast<double>(l));
    *reinterpret_cast<float*>(const_cast<char*>(item(args.lse, GRETA_F32, token, head))) =
        empty ? -INFINITY : static_cast<float>(lse);
  }
}

}  // namespace GRETA_ISA
}  // namespace greta
