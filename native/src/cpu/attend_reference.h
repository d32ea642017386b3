/* The plain kernel, in builds for tests only: the shipped library does not have it, because it keeps to no schedule and
 * could not declare one. */
#pragma once

#include "kernels.h"

namespace greta {
namespace reference {
extern const Kernels kernels;
}
}  // namespace greta
