/* The runtime over the emulation: device memory is the process's own, a stream is nothing, calls are done when they
 * return. */
#include <cstring>
#include <mutex>
#include <new>

#include "emulate.h"
#include "errors.h"
#include "fence.h"
#include "runtime.h"

namespace greta {
namespace runtime {

int device_count(std::string*) {
  return 1;
}

void use_device(int) {}

std::string device_kind() {
  return gpu::wave == 64 ? "emulated gfx942" : "emulated sm_90";
}

void* allocate(size_t bytes) {
  void* memory = gpu::fenced(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(void* memory) noexcept {
  gpu::unfence(memory);
}

Stream create_stream() {
  return nullptr;
}
void destroy_stream(Stream) noexcept {}
void to_device(void* target, const void* source, size_t bytes, Stream) {
  std::memcpy(target, source, bytes);
}
void to_host(void* target, const void* source, size_t bytes, Stream) {
  std::memcpy(target, source, bytes);
}
void zero(void* memory, size_t bytes, Stream) {
  std::memset(memory, 0, bytes);
}
void wait(Stream) {}

Function find(const char* kernel) {
  const gpu::Kernel* found = gpu::find_kernel(kernel);
  if (found == nullptr) fail(GRETA_INTERNAL, "there is no kernel %s", kernel);
  return found;
}

void launch(Function function, Grid grid, int waves, const void* params, Stream) {
  static std::mutex one_at_a_time; /* shared memory is static */
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  const auto& kernel = *static_cast<const gpu::Kernel*>(function);
  if (kernel.threads != waves * gpu::wave)
    fail(GRETA_INTERNAL, "kernel %s was not written for %d waves", kernel.name, waves);
  const char* error = gpu::launch(kernel, grid.x, grid.y, grid.z, params);
  if (error != nullptr) fail(GRETA_DEVICE_ERROR, "%s", error);
}

}  // namespace runtime
}  // namespace greta
