/* The runtime of a device, by the few things that are asked of it: HIP's or CUDA's, found when it is first needed, or
 * the emulation. Everything but device_count fails with a line that names the call, its error and the place. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace greta {
namespace runtime {

/* 0 where there is no device, no driver or no runtime; `reason` says which. Initialises nothing that a fork would break
 * before a device is there. */
int device_count(std::string* reason = nullptr);
/* For this thread, from here on. */
void use_device(int device);
/* "hip gfx942", "cuda", "emulated gfx942"; without the architecture where there is no device. */
std::string device_kind();

void* allocate(size_t bytes); /* device memory, not zeroed */
void release(void* memory) noexcept;

using Stream = void*;
Stream create_stream();
void destroy_stream(Stream stream) noexcept;
void to_device(void* target, const void* source, size_t bytes, Stream stream);
void to_host(void* target, const void* source, size_t bytes, Stream stream);
void zero(void* memory, size_t bytes, Stream stream);
void wait(Stream stream);

using Function = const void*;
/* A kernel of the current device. */
Function find(const char* kernel);
struct Grid {
  int32_t x, y, z;
};
/* `waves` of the device's width a block. `params` is copied before this returns. */
void launch(Function function, Grid grid, int waves, const void* params, Stream stream);

}  // namespace runtime
}  // namespace greta
