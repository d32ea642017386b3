/* The passes of the instruction set that this is compiled for. */
#pragma once

#include "passes.h"

namespace greta_reference {
namespace GRETA_ISA {

bool within(const greta_reference_stored& stored, const greta_reference_bounded& reference,
            const greta_reference_rows& rows);
bool rope_within(const greta_reference_stored& stored, const greta_reference_rope& rope,
                 const greta_reference_rows& rows);
void shift(const greta_reference_scores& scores);
void normalise(const greta_reference_scores& scores);
void weigh(const greta_reference_softmax& softmax, const greta_reference_weighed& weighed);
void widen(const float* values, int64_t count, double* wide, float* magnitude);

}  // namespace GRETA_ISA
}  // namespace greta_reference
