/* HIP's runtime as far as the library asks for it, over the process's own memory: kernels are found in the image and not
 * run.
 *
 *   FAKE_HIP_DEVICES   how many; 0: hipErrorNoDevice, and the count stays unwritten, as in ROCm
 *   FAKE_HIP_ERROR     what hipInit returns
 *   FAKE_HIP_LOAD      what hipModuleLoadData returns
 *   FAKE_HIP_LOG       a file: a line for each launch: kernel, blocks, threads, dynamic LDS, device, stream
 *
 * And by functions of its own: fake_hip_fail lets a later call fail; fake_hip_call names the last one.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const char* name) {
  const char* value = getenv(name);
  return value == NULL ? 0 : atoi(value);
}

static int current, until = -1, wrong;
static long calls;
static const char* last = "";

/* The call after `others` more of them returns `error` and does nothing else. -1: none does. */
void fake_hip_fail(int others, int error) { until = others, wrong = error; }
/* Calls so far, but for those that give something back; and the name of the last one. */
long fake_hip_calls(void) { return calls; }
const char* fake_hip_call(void) { return last; }

static int fails(const char* name) {
  ++calls, last = name;
  return until >= 0 && until-- == 0;
}
#define CALLED \
  if (fails(__func__)) return wrong

int hipInit(unsigned flags) { return number("FAKE_HIP_ERROR") + (int)flags; }
int hipGetDeviceCount(int* count) {
  if (number("FAKE_HIP_DEVICES") == 0) return 100;
  *count = number("FAKE_HIP_DEVICES");
  return 0;
}
int hipSetDevice(int device) {
  CALLED;
  current = device;
  return device < number("FAKE_HIP_DEVICES") ? 0 : 101;
}
int hipGetDevicePropertiesR0600(void* properties, int device) {
  memset(properties, 0, 1000);
  strcpy((char*)properties, "AMD Instinct MI300X");
  strcpy((char*)properties + 900, "gfx942:sramecc+:xnack-");
  return device < number("FAKE_HIP_DEVICES") ? 0 : 101;
}
const char* hipGetErrorString(int error) { return error == 2 ? "out of memory" : "made-up error"; }
int hipMalloc(void** memory, size_t bytes) {
  CALLED;
  *memory = malloc(bytes);
  return *memory == NULL ? 2 : 0;
}
int hipFree(void* memory) {
  free(memory);
  return 0;
}
int hipStreamCreateWithFlags(void** stream, unsigned flags) {
  CALLED;
  *stream = malloc(flags);
  return 0;
}
int hipStreamDestroy(void* stream) { return hipFree(stream); }
int hipStreamSynchronize(void* stream) {
  CALLED;
  return stream == NULL;
}
int hipMemcpyHtoDAsync(void* to, const void* from, size_t bytes, void* stream) {
  CALLED;
  memcpy(to, from, bytes);
  return stream == NULL;
}
int hipMemcpyDtoHAsync(void* to, const void* from, size_t bytes, void* stream) {
  CALLED;
  memcpy(to, from, bytes);
  return stream == NULL;
}
int hipMemsetD8Async(void* to, unsigned char value, size_t bytes, void* stream) {
  CALLED;
  memset(to, value, bytes);
  return stream == NULL;
}

/* An offload bundle: the magic, a count, and for each entry offset, size, and a name by its length. */
static size_t bundle_size(const char* bundle) {
  uint64_t count, entry[3], end = 0;
  memcpy(&count, bundle + 24, 8);
  const char* at = bundle + 32;
  for (uint64_t i = 0; i < count; ++i) {
    memcpy(entry, at, 24);
    if (entry[0] + entry[1] > end) end = entry[0] + entry[1];
    at += 24 + entry[2];
  }
  return end;
}
int hipModuleLoadData(void** module, const void* image) {
  CALLED;
  if (memcmp(image, "__CLANG_OFFLOAD_BUNDLE__", 24) != 0) return 200;
  *module = (void*)image;
  return number("FAKE_HIP_LOAD");
}
int hipModuleGetFunction(void** function, void* module, const char* name) {
  CALLED;
  char symbol[200]; /* a string of the symbol table */
  symbol[0] = '\0';
  const int length = snprintf(symbol + 1, sizeof symbol - 1, "%s.kd", name) + 2;
  *function = memmem(module, bundle_size(module), symbol, (size_t)length);
  return *function == NULL ? 500 : 0;
}
#ifndef FAKE_HIP_LACKS_LAUNCH
int hipModuleLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                          unsigned threads_z, unsigned lds, void* stream, void** params, void** extra) {
  CALLED;
  FILE* log = getenv("FAKE_HIP_LOG") == NULL ? NULL : fopen(getenv("FAKE_HIP_LOG"), "a");
  if (log != NULL) {
    fprintf(log, "%s %ux%ux%u %u %u %d %p\n", (char*)function + 1, x, y, z, threads * threads_y * threads_z, lds,
            current, stream);
    fclose(log);
  }
  return stream == NULL || params[0] == NULL || extra != NULL;
}
#endif
