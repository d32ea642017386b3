/* Memory of the emulated device, whose end cannot be overrun in silence. */
#pragma once

#include <stddef.h>

namespace greta {
namespace gpu {

/* `bytes`, aligned to 16, up to a page that cannot be touched: what goes past the end crashes. All bits are set, NaN in
 * every float type, so that what nobody wrote shows; but a GiB and more is left untouched. NULL where there is no
 * memory.
 */
void* fenced(size_t bytes);
void zero_fenced(void* data, size_t bytes);
/* Ends the process with a message where something was written before the data, or into the up to 15 bytes between their
 * end and the page. NULL does nothing. */
void unfence(void* data) noexcept;

}  // namespace gpu
}  // namespace greta
