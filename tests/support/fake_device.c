/* A library with as many devices as the test says, which reads the masks as AMD's runtimes do. Its attention is the
 * built-in CPU library's, so that a run over it comes to a verdict.
 *
 *   FAKE_REAL      path of the CPU library, or of the emulated one
 *   FAKE_DEVICES   devices of the machine, before any mask; 1
 *   FAKE_MEMORY    device: arrays of the host are declared away, and refused
 *   FAKE_DOES      what counting them does: hang, crash, exit, print
 *   FAKE_LOG       a file: greta_open appends "WORKER DEVICE ROCR HIP CUDA", the device as the machine numbers it
 *   FAKE_CRASH     a file: the first greta_attend that finds it removes it and crashes
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "greta_attn.h"

enum { MOST = 64 };

static char message[256];

static const char* variable(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value == NULL ? otherwise : value;
}

static void* real(const char* name) {
  static void* library;
  if (library == NULL) library = dlopen(variable("FAKE_REAL", ""), RTLD_NOW | RTLD_LOCAL);
  return library == NULL ? NULL : dlsym(library, name);
}
#define REAL(name) ((__typeof__(&name))real(#name))

/* Keeps of devices[0 .. n - 1] those that the mask names; a runtime stops at the first that is none. */
static int mask(const char* name, int* devices, int n) {
  const char* value = getenv(name);
  if (value == NULL) return n;
  int kept[MOST], count = 0;
  char* end;
  for (; count < MOST; value = end + 1) {
    const long index = strtol(value, &end, 10);
    if (end == value || index < 0 || index >= n) break;
    kept[count++] = devices[index];
    if (*end != ',') break;
  }
  memcpy(devices, kept, sizeof kept);
  return count;
}

static int visible(int* devices) {
  int n = atoi(variable("FAKE_DEVICES", "1"));
  for (int i = 0; i < n; ++i) devices[i] = i;
  n = mask("ROCR_VISIBLE_DEVICES", devices, n);
  /* HIP reads CUDA's variable where its own is not set. */
  return mask(getenv("HIP_VISIBLE_DEVICES") != NULL ? "HIP_VISIBLE_DEVICES" : "CUDA_VISIBLE_DEVICES", devices, n);
}

static int only_device_memory(void) {
  return strcmp(variable("FAKE_MEMORY", ""), "device") == 0;
}

int32_t greta_abi_version(void) {
  return GRETA_ABI_VERSION;
}

static void put_in_place(char* text, size_t size, const char* old, const char* other) {
  char* at = strstr(text, old);
  if (at == NULL) return;
  char rest[16384];
  snprintf(rest, sizeof rest, "%s", at + strlen(old));
  snprintf(at, size - (size_t)(at - text), "%s%s", other, rest);
}

const char* greta_describe(void) {
  static char text[16384];
  snprintf(text, sizeof text, "%s", REAL(greta_describe)());
  put_in_place(text, sizeof text, "\"device_kind\": \"cpu\"", "\"device_kind\": \"hip fake\"");
  if (only_device_memory()) put_in_place(text, sizeof text, "[\"host\", \"device\"]", "[\"device\"]");
  return text;
}

const char* greta_last_error(void) {
  return message[0] != '\0' ? message : REAL(greta_last_error)();
}

greta_status greta_device_count(int32_t* count) {
  int devices[MOST];
  const char* does = variable("FAKE_DOES", "");
  if (strcmp(does, "hang") == 0) sleep(600);
  if (strcmp(does, "crash") == 0) abort();
  if (strcmp(does, "exit") == 0) {
    fprintf(stderr, "the driver said farewell\n");
    exit(7);
  }
  if (strcmp(does, "print") == 0) printf("{\"devices\": 99}\n");
  *count = visible(devices);
  return GRETA_OK;
}

greta_status greta_open(const greta_config* config, greta_session** session) {
  int devices[MOST];
  const int n = visible(devices);
  message[0] = '\0';
  if (config->device < 0 || config->device >= n) {
    snprintf(message, sizeof message, "config.device is %d, and there are %d", config->device, n);
    return GRETA_NO_DEVICE;
  }
  if (only_device_memory() && config->memory != GRETA_MEMORY_DEVICE) {
    snprintf(message, sizeof message, "device_memory: config.memory is %d", config->memory);
    return GRETA_UNSUPPORTED;
  }
  if (getenv("FAKE_LOG") != NULL) {
    FILE* log = fopen(getenv("FAKE_LOG"), "a");
    fprintf(log, "%s %d %s %s %s\n", variable("PYTEST_XDIST_WORKER", "-"), devices[config->device],
            variable("ROCR_VISIBLE_DEVICES", "-"), variable("HIP_VISIBLE_DEVICES", "-"),
            variable("CUDA_VISIBLE_DEVICES", "-"));
    fclose(log);
  }
  greta_config cpu = *config;
  cpu.device = 0;
  return REAL(greta_open)(&cpu, session);
}

void greta_close(greta_session* session) {
  REAL(greta_close)(session);
}

greta_status greta_attend(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                          const greta_tensor* q, const greta_tensor* k_new, const greta_tensor* v_new,
                          const greta_tensor* out, const greta_tensor* lse) {
  if (getenv("FAKE_CRASH") != NULL && unlink(getenv("FAKE_CRASH")) == 0) abort();
  return REAL(greta_attend)(session, layer, phase, batch, q, k_new, v_new, out, lse);
}

greta_status greta_rope(greta_session* session, int32_t layer, int32_t phase, const greta_batch* batch,
                        const greta_tensor* q, const greta_tensor* k) {
  return REAL(greta_rope)(session, layer, phase, batch, q, k);
}

greta_status greta_kv_write(greta_session* session, int32_t layer, const greta_batch* batch, const greta_tensor* k,
                            const greta_tensor* v) {
  return REAL(greta_kv_write)(session, layer, batch, k, v);
}

greta_status greta_kv_read(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count, void* k,
                           void* v) {
  return REAL(greta_kv_read)(session, layer, seq, start, count, k, v);
}

greta_status greta_kv_load(greta_session* session, int32_t layer, int32_t seq, int32_t start, int32_t count,
                           const void* k, const void* v) {
  return REAL(greta_kv_load)(session, layer, seq, start, count, k, v);
}

greta_status greta_kv_trim(greta_session* session, int32_t seq, int32_t len) {
  return REAL(greta_kv_trim)(session, seq, len);
}

greta_status greta_counters(greta_session* session, greta_counter* counters, int32_t capacity, int32_t* count) {
  return REAL(greta_counters)(session, counters, capacity, count);
}

greta_status greta_sync(greta_session* session) {
  return REAL(greta_sync)(session);
}
