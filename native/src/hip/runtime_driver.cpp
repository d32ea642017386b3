/* HIP's module interface, or CUDA's driver interface, which is the same by other names. The runtime library is opened
 * when it is first needed, so that this library loads on any machine and serves any version of ROCm that has these
 * functions. */
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "errors.h"
#include "runtime.h"

/* Code objects of all architectures, image.cpp. */
extern "C" const char greta_kernels_image[], greta_combine_image[];

namespace greta {
namespace runtime {
namespace {

/* hipErrorNoDevice, hipErrorNoBinaryForGpu, hipErrorNotFound; CUDA's have the same numbers. */
constexpr int no_device = 100, no_code = 209, not_found = 500;
#ifdef GRETA_CUDA
constexpr int wave = 32;
constexpr const char* library_names[] = {"libcuda.so.1", "libcuda.so"};
#define GRETA_NAME(hip, cuda) cuda
#else
constexpr int wave = 64;
constexpr const char* library_names[] = {"libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5"};
#define GRETA_NAME(hip, cuda) hip
#endif

/* The functions used; an int is the runtime's error code, 0 for success. */
struct Api {
  int (*init)(unsigned);
  int (*count)(int*);
  int (*allocate)(void**, size_t);
  int (*release)(void*);
  int (*create_stream)(void**, unsigned);
  int (*destroy_stream)(void*);
  int (*to_device)(void*, const void*, size_t, void*);
  int (*to_host)(void*, const void*, size_t, void*);
  int (*fill)(void*, unsigned char, size_t, void*);
  int (*wait)(void*);
  int (*load)(void**, const void*);
  int (*function)(void**, void*, const char*);
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
#ifdef GRETA_CUDA
  int (*device)(int*, int);
  int (*retain)(void**, int);
  int (*set_context)(void*);
  int (*words)(int, const char**);
#else
  int (*set_device)(int);
  const char* (*words)(int);
  int (*properties)(void*, int); /* the structure grew between versions */
#endif
};

/* Why there is no runtime; empty where there is one. */
struct Loaded {
  Api api{};
  std::string missing;
  int count = 0;
};

template <class F>
bool look_up(void* library, F& function, const char* name, std::string& missing) {
  void* symbol = dlsym(library, name);
  std::memcpy(&function, &symbol, sizeof symbol);
  if (symbol == nullptr && missing.empty()) missing = std::string("the runtime library has no ") + name;
  return symbol != nullptr;
}

/* One that the process has already, PyTorch's for instance, comes first: device memory of one runtime means nothing to
 * another. Then the loader's own search, then ROCm's folder. */
void* open_library() {
  for (int flags : {RTLD_NOW | RTLD_NOLOAD, RTLD_NOW}) {
    for (const char* name : library_names) {
      if (void* library = dlopen(name, flags)) return library;
    }
  }
#ifndef GRETA_CUDA
  const char* root = std::getenv("ROCM_PATH");
  for (const std::string& folder : {std::string(root == nullptr ? "" : root), std::string("/opt/rocm")}) {
    if (folder.empty()) continue;
    if (void* library = dlopen((folder + "/lib/" + library_names[0]).c_str(), RTLD_NOW)) return library;
  }
#endif
  return nullptr;
}

void open_runtime(Loaded& loaded) {
  void* library = open_library();
  if (library == nullptr) {
    loaded.missing =
        GRETA_NAME("no libamdhip64.so: ROCm's runtime is neither on the loader's path nor in /opt/rocm/lib",
                   "no libcuda.so.1: NVIDIA's driver is not installed");
    return;
  }
  Api& api = loaded.api;
  std::string& missing = loaded.missing;
  look_up(library, api.init, GRETA_NAME("hipInit", "cuInit"), missing);
  look_up(library, api.count, GRETA_NAME("hipGetDeviceCount", "cuDeviceGetCount"), missing);
  look_up(library, api.allocate, GRETA_NAME("hipMalloc", "cuMemAlloc_v2"), missing);
  look_up(library, api.release, GRETA_NAME("hipFree", "cuMemFree_v2"), missing);
  look_up(library, api.create_stream, GRETA_NAME("hipStreamCreateWithFlags", "cuStreamCreate"), missing);
  look_up(library, api.destroy_stream, GRETA_NAME("hipStreamDestroy", "cuStreamDestroy_v2"), missing);
  look_up(library, api.to_device, GRETA_NAME("hipMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2"), missing);
  look_up(library, api.to_host, GRETA_NAME("hipMemcpyDtoHAsync", "cuMemcpyDtoHAsync_v2"), missing);
  look_up(library, api.fill, GRETA_NAME("hipMemsetD8Async", "cuMemsetD8Async"), missing);
  look_up(library, api.wait, GRETA_NAME("hipStreamSynchronize", "cuStreamSynchronize"), missing);
  look_up(library, api.load, GRETA_NAME("hipModuleLoadData", "cuModuleLoadData"), missing);
  look_up(library, api.function, GRETA_NAME("hipModuleGetFunction", "cuModuleGetFunction"), missing);
  look_up(library, api.launch, GRETA_NAME("hipModuleLaunchKernel", "cuLaunchKernel"), missing);
  look_up(library, api.words, GRETA_NAME("hipGetErrorString", "cuGetErrorString"), missing);
#ifdef GRETA_CUDA
  look_up(library, api.device, "cuDeviceGet", missing);
  look_up(library, api.retain, "cuDevicePrimaryCtxRetain", missing);
  look_up(library, api.set_context, "cuCtxSetCurrent", missing);
#else
  look_up(library, api.set_device, "hipSetDevice", missing);
  std::string no_matter;
  if (!look_up(library, api.properties, "hipGetDevicePropertiesR0600", no_matter)) {
    look_up(library, api.properties, "hipGetDeviceProperties", missing);
  }
#endif
}

std::string words_of(const Api& api, int error) {
#ifdef GRETA_CUDA
  const char* words = nullptr;
  if (api.words(error, &words) != 0) words = nullptr;
#else
  const char* words = api.words(error);
#endif
  return words == nullptr ? "unknown error" : words;
}

void count_devices(Loaded& loaded) {
  if (!loaded.missing.empty()) return;
  int count = 0; /* left unwritten by a runtime that finds none */
  int error = loaded.api.init(0);
  if (error == 0) error = loaded.api.count(&count);
  loaded.count = error == 0 ? count : 0;
  if (loaded.count == 0) {
    loaded.missing = error == 0 || error == no_device ? "the runtime finds no device"
                                                      : "the runtime finds no device: " + words_of(loaded.api, error) +
                                                            " (" + std::to_string(error) + ")";
  }
}

const Loaded& loaded() {
  static const Loaded once = [] {
    Loaded result;
    open_runtime(result);
    count_devices(result);
    return result;
  }();
  return once;
}

const Api& api() {
  const Loaded& own = loaded();
  if (own.count == 0) fail(GRETA_NO_DEVICE, "%s", own.missing.c_str());
  return own.api;
}

void check(int error, const char* call, const char* file, int line) {
  if (error == 0) return;
  const char* name = std::strrchr(file, '/');
  fail(error == 2 ? GRETA_OUT_OF_MEMORY : GRETA_DEVICE_ERROR, "%s: %s (%d), at %s:%d", call,
       words_of(loaded().api, error).c_str(), error, name == nullptr ? file : name + 1, line);
}
#define GRETA_CHECK(call) check((call), #call, __FILE__, __LINE__)

thread_local int current = 0;
constexpr unsigned dynamic_lds = 0; /* of every launch: what a kernel shares, its code object says in full */

constexpr const char* images[] = {greta_kernels_image, greta_combine_image};
using Modules = std::array<void*, 2>;

/* A device's kernels, loaded when the first is asked for. */
const Modules& modules_of(int device) {
  static std::mutex mutex;
  static std::vector<Modules> loaded_modules(static_cast<size_t>(loaded().count), Modules{});
  const std::lock_guard<std::mutex> lock(mutex);
  Modules& modules = loaded_modules.at(static_cast<size_t>(device));
  for (size_t i = 0; i < modules.size(); ++i) {
    if (modules[i] != nullptr) continue;
    const int error = api().load(&modules[i], images[i]);
    if (error == no_code) {
      fail(GRETA_UNSUPPORTED,
           "device: device %d is none of those that this library has kernels for, " GRETA_ARCHITECTURES, device);
    }
    check(error, GRETA_NAME("hipModuleLoadData", "cuModuleLoadData"), __FILE__, __LINE__);
  }
  return modules;
}

#ifndef GRETA_CUDA
/* "gfx942": where the structure holds it differs between versions, that it begins with gfx does not. */
std::string architecture(int device) {
  std::vector<char> room(16384, '\0');
  if (loaded().api.properties(room.data(), device) != 0) return "";
  for (size_t i = 0; i + 16 < room.size(); ++i) {
    if (std::memcmp(&room[i], "gfx", 3) != 0) continue;
    std::string name(&room[i]);
    return name.substr(0, name.find(':')); /* without the features: gfx942:sramecc+:xnack- */
  }
  return "";
}
#endif

}  // namespace

int device_count(std::string* reason) {
  if (reason != nullptr) *reason = loaded().missing;
  return loaded().count;
}

void use_device(int device) {
#ifdef GRETA_CUDA
  int handle = 0;
  void* context = nullptr;
  GRETA_CHECK(api().device(&handle, device));
  static std::mutex mutex;
  static std::vector<void*> contexts(static_cast<size_t>(loaded().count), nullptr);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (contexts.at(static_cast<size_t>(device)) == nullptr) {
      GRETA_CHECK(api().retain(&context, handle));
      contexts[static_cast<size_t>(device)] = context;
    }
    context = contexts[static_cast<size_t>(device)];
  }
  GRETA_CHECK(api().set_context(context));
#else
  GRETA_CHECK(api().set_device(device));
#endif
  current = device;
}

std::string device_kind() {
#ifdef GRETA_CUDA
  return "cuda";
#else
  const std::string name = loaded().count == 0 ? "" : architecture(0);
  return name.empty() ? "hip" : "hip " + name;
#endif
}

void* allocate(size_t bytes) {
  void* memory = nullptr;
  GRETA_CHECK(api().allocate(&memory, bytes > 0 ? bytes : 1));
  return memory;
}

void release(void* memory) noexcept {
  if (memory != nullptr && loaded().count > 0) loaded().api.release(memory);
}

Stream create_stream() {
  Stream stream = nullptr;
  GRETA_CHECK(api().create_stream(&stream, 1)); /* does not wait for the default stream */
  return stream;
}

void destroy_stream(Stream stream) noexcept {
  if (stream != nullptr && loaded().count > 0) loaded().api.destroy_stream(stream);
}

void to_device(void* target, const void* source, size_t bytes, Stream stream) {
  if (bytes > 0) GRETA_CHECK(api().to_device(target, source, bytes, stream));
}

void to_host(void* target, const void* source, size_t bytes, Stream stream) {
  if (bytes > 0) GRETA_CHECK(api().to_host(target, source, bytes, stream));
}

void zero(void* memory, size_t bytes, Stream stream) {
  if (bytes > 0) GRETA_CHECK(api().fill(memory, 0, bytes, stream));
}

void wait(Stream stream) {
  GRETA_CHECK(api().wait(stream));
}

Function find(const char* kernel) {
  void* function = nullptr;
  int error = not_found;
  for (void* module : modules_of(current)) {
    error = api().function(&function, module, kernel);
    if (error != not_found) break;
  }
  check(error, kernel, __FILE__, __LINE__);
  return function;
}

void launch(Function function, Grid grid, int waves, const void* params, Stream stream) {
  void* arguments[] = {const_cast<void*>(params)};
  GRETA_CHECK(api().launch(const_cast<void*>(function), static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                           static_cast<unsigned>(grid.z), static_cast<unsigned>(waves * wave), 1, 1, dynamic_lds,
                           stream, arguments, nullptr));
}

}  // namespace runtime
}  // namespace greta
