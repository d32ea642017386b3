/* Where the faulty twin goes wrong. In the shipped library planted() is a constant false and nothing of this remains.
 * A new kind is one line in the list and one `if (planted(...))` in a kernel. */
#pragma once

#include <cstdint>

/* split_merge: the split-KV combine adds the partial results without rescaling each by exp(m_split - m). */
#define GRETA_FAULT_KINDS(X) X(split_merge)

namespace greta {

enum class Fault {
#define GRETA_FAULT_NAME(name) name,
  GRETA_FAULT_KINDS(GRETA_FAULT_NAME)
#undef GRETA_FAULT_NAME
};

#ifdef GRETA_FAULTS
/* `position` is the cache row of the query. */
bool planted(Fault kind, int32_t phase, int32_t layer, int32_t head, int32_t position) noexcept;
double planted_magnitude() noexcept;
constexpr bool has_faults = true;
#else
namespace {
constexpr bool planted(Fault, int32_t, int32_t, int32_t, int32_t) {
  return false;
}
}  // namespace
constexpr bool has_faults = false;
#endif

}  // namespace greta
