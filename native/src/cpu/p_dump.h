/* The test build's look at P; nothing of it remains elsewhere. */
#pragma once

#include <cstdint>

namespace greta {

#ifdef GRETA_DUMP_P
/* Defined by the test. Keys first + lo .. first + hi - 1 of a row: p[lo .. hi - 1] as they meet V, and the running max.
 * Sessions that are looked at have one thread. */
void dump_weights(int32_t token, int32_t head, int32_t first, int32_t lo, int32_t hi, const float* p, float m) noexcept;
#else
namespace {
inline void dump_weights(int32_t, int32_t, int32_t, int32_t, int32_t, const float*, float) {}
}  // namespace
#endif

}  // namespace greta
