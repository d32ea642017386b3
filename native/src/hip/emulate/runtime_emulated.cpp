/* The runtime over the emulation: device memory is the process's own, a stream is nothing, calls are done when they
 * return. */
#include <cstdio>
#include <cstdlib>
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
  gpu::zero_fenced(memory, bytes);
}
void wait(Stream) {}

namespace {

/* A line for each kernel that is launched, in the file GRETA_EMULATED_LOG: a test sees that all of them were. */
void note(const char* kernel) {
  const char* path = std::getenv("GRETA_EMULATED_LOG");
  FILE* log = path == nullptr ? nullptr : std::fopen(path, "a");
  if (log == nullptr) return;
  std::fprintf(log, "%s\n", kernel);
  std::fclose(log);
}

}  // namespace

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
  note(kernel.name);
  const char* error = gpu::launch(kernel, grid.x, grid.y, grid.z, params);
  if (error != nullptr) fail(GRETA_DEVICE_ERROR, "%s", error);
}

}  // namespace runtime
}  // namespace greta
