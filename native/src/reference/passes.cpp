#include "passes_isa.h"

namespace greta_reference {
namespace GRETA_ISA {

const Passes passes = {within, rope_within, shift, normalise, weigh, widen};

}  // namespace GRETA_ISA
}  // namespace greta_reference
