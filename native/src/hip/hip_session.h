/* A session on a device: its cache, its parameters, the kernels that it was opened for. */
#pragma once

#include <memory>
#include <vector>

#include "config.h"
#include "params.h"
#include "runtime.h"

namespace greta {

/* Device memory that frees itself, and grows when more is asked for. */
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : data_(other.data_), bytes_(other.bytes_) { other.data_ = nullptr; }
  ~Buffer() { runtime::release(data_); }

  /* What was there is lost where it grows: a call that is captured in a graph must have run once before. */
  void* reserve(size_t bytes);
  void* get() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

/* A layer's arrays on the device; NULL where there is none. */
struct DeviceLayer {
  Buffer inverse_frequencies, k_scale, v_scale, sinks, alibi;
};

/* Which kernels a phase runs: GRETA_HIP_KERNELS=naive or fast. */
enum class KernelChoice { fast, naive };
KernelChoice chosen_kernels();
const char* kernel_name(KernelChoice choice, int32_t phase); /* as greta_counters spells it */

struct Functions {
  runtime::Function rope, kv_write, kv_move, kv_trim, prefill, combine;
  runtime::Function decode[3]; /* by decode_rows; naive: the first */
};

constexpr int32_t default_decode_splits = 8;

}  // namespace greta

struct greta_session {
  greta::Config config;
  int32_t device = 0;
  bool on_host = true; /* the caller's arrays are the host's */
  greta::runtime::Stream stream = nullptr;
  bool own_stream = false;
  greta::KernelChoice choice = greta::KernelChoice::fast;
  greta::Functions functions{};
  greta::Buffer k, v; /* [layer][page][kv head][slot][dim] */
  greta::Buffer tables, rows, flag;
  std::vector<greta::DeviceLayer> layers;
  greta::Buffer partials;
  greta::Buffer staged_batch, staged_tensors[4]; /* the device's copies of what the host hands over */
  int64_t calls[2] = {0, 0};                     /* of greta_attend, by phase */

  greta_session() = default;
  greta_session(const greta_session&) = delete;
  greta_session& operator=(const greta_session&) = delete;
  ~greta_session();
};

namespace greta {

void require_session(greta_session* session); /* and makes its device this thread's */

size_t k_layer_bytes(const Config& config);
size_t v_layer_bytes(const Config& config);
CacheParams cache_of(const greta_session& session, int32_t layer);
/* The pages that greta_kv_read goes by. */
const int32_t* pages_of(const greta_session& session, int32_t seq);

/* Waits, and fails with what a kernel complained about, once. */
void finish_calls(greta_session& session);

}  // namespace greta
