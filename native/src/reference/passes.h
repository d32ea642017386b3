/* The passes as they are compiled once per instruction set, and which of these this processor has. */
#pragma once

#include "greta_reference.h"

namespace greta_reference {

struct Passes {
  bool (*within)(const greta_reference_stored&, const greta_reference_bounded&, const greta_reference_rows&);
  bool (*rope_within)(const greta_reference_stored&, const greta_reference_rope&, const greta_reference_rows&);
  void (*shift)(const greta_reference_scores&);
  void (*normalise)(const greta_reference_scores&);
  void (*weigh)(const greta_reference_softmax&, const greta_reference_weighed&);
  void (*widen)(const float*, int64_t, double*, float*);
};

namespace portable {
extern const Passes passes;
}
namespace avx2 {
extern const Passes passes;
}
namespace avx512 {
extern const Passes passes;
}

/* Null-terminated, the usable ones, best first. */
const Passes* const* usable();

}  // namespace greta_reference
