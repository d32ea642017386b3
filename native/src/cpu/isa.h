/* The instruction sets that the kernels were compiled for, and the choice among them at run time. */
#pragma once

#include "kernels.h"

namespace greta {

struct Isa {
  const char* name;
  const Kernels* kernels;
};

/* The best one that this processor has, or the one that the environment variable GRETA_CPU_ISA names. Fails on a name
 * that is unknown or that this processor lacks. */
const Isa& chosen_isa();
/* The same without failing: the best one where the variable cannot be followed. */
const Isa& best_isa();
/* Null-terminated, the usable ones, best first. */
const Isa* usable_isas();

}  // namespace greta
