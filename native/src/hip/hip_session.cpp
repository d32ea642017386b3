#include "hip_session.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>

#include "call_checks.h"
#include "dtypes.h"
#include "errors.h"
#include "fault_sessions.h"

namespace greta {
namespace {

/* Narrows what the shared checks allow to what these kernels have. */
void check_schedule(const Config& config, const greta_schedule& asked, int32_t phase) {
  const char* name = phase == GRETA_PREFILL ? "prefill" : "decode";
  const Schedule& schedule = config.schedule[phase];
  const int32_t tile = config.max_len < tile_keys ? config.max_len : tile_keys;
  if (schedule.tile != tile) {
    unsupported("schedule", "schedule[%s].tile is %d; these kernels have tiles of %d keys", name, asked.tile,
                tile_keys);
  }
  if (phase == GRETA_PREFILL && schedule.splits != 1) {
    unsupported("schedule", "schedule[prefill].splits is %d; the prefill kernel has 1", asked.splits);
  }
  if (schedule.direction != GRETA_FORWARD) unsupported("direction", "schedule[%s].direction; only forward", name);
  if (schedule.tile_origin != GRETA_ORIGIN_ZERO)
    unsupported("tile_origin", "schedule[%s].tile_origin; only zero", name);
  if (schedule.max_update != GRETA_MAX_EVERY_TILE) {
    unsupported("max_update", "schedule[%s].max_update; only every_tile", name);
  }
  const int32_t own = phase == GRETA_PREFILL ? config.act_dtype : GRETA_F32; /* 0, f32, asks for the default */
  if (asked.p_dtype != GRETA_F32 && asked.p_dtype != own) {
    unsupported("p_dtype", "schedule[%s].p_dtype is %s; here it is %s", name, dtype_name(asked.p_dtype),
                dtype_name(own));
  }
  if (schedule.p_scale != 1.0f) unsupported("p_scale", "schedule[%s].p_scale; only 1", name);
}

int32_t next_of(int32_t value, std::initializer_list<int32_t> sizes) {
  for (int32_t size : sizes) {
    if (value <= size) return size;
  }
  return 0;
}

/* The type that prefill multiplies: the activation's where the cache's fits into it without a rounding, else float. */
const char* multiplied_type(const Config& config) {
  const bool fits = config.kv_dtype == config.act_dtype || config.kv_dtype >= GRETA_FP8_E4M3FN;
  return config.act_dtype == GRETA_BF16 && fits ? "bf16" : config.act_dtype == GRETA_F16 && fits ? "f16" : "f32";
}

Functions functions_of(const Config& config, KernelChoice choice) {
  Functions f{};
  f.rope = runtime::find("greta_rope_kernel");
  f.kv_write = runtime::find("greta_kv_write_kernel");
  f.kv_move = runtime::find("greta_kv_move_kernel");
  f.kv_trim = runtime::find("greta_kv_trim_kernel");
  f.combine = runtime::find("greta_combine");
  if (choice == KernelChoice::naive) {
    f.prefill = runtime::find("greta_prefill_naive");
    f.decode[0] = runtime::find("greta_decode_naive");
    return f;
  }
  const int32_t dim = config.head_dim_qk > config.head_dim_v ? config.head_dim_qk : config.head_dim_v;
  if (config.head_dim_qk % 8 != 0 || config.head_dim_v % 8 != 0) {
    unsupported("head_dim", "%d and %d; the fast kernels take multiples of 8, GRETA_HIP_KERNELS=naive any up to %d",
                config.head_dim_qk, config.head_dim_v, max_head_dim);
  }
  const std::string wide = std::to_string(next_of(dim, {64, 80, 96, 128, 192, 256}));
  f.prefill = runtime::find(("greta_prefill_" + std::string(multiplied_type(config)) + "_" + wide).c_str());
  const std::string decode = "greta_decode_" + std::string(dtype_name(config.kv_dtype)) + "_" +
                             std::to_string(next_of(dim, {64, 128, 256})) + "_rows_";
  for (size_t i = 0; i < 3; ++i) f.decode[i] = runtime::find((decode + std::to_string(decode_rows[i])).c_str());
  return f;
}

template <class T>
void upload(Buffer& buffer, const std::vector<T>& values, runtime::Stream stream) {
  if (values.empty()) return;
  const size_t bytes = values.size() * sizeof(T);
  runtime::to_device(buffer.reserve(bytes), values.data(), bytes, stream);
}

size_t product(size_t a, size_t b) {
  size_t result;
  if (__builtin_mul_overflow(a, b, &result)) throw std::bad_alloc();
  return result;
}

void zeroed(Buffer& buffer, size_t bytes, runtime::Stream stream) {
  runtime::zero(buffer.reserve(bytes), bytes, stream);
}

void fill_session(greta_session& session) {
  const Config& config = session.config;
  const auto n_layers = static_cast<size_t>(config.n_layers());
  zeroed(session.k, product(n_layers, k_layer_bytes(config)), session.stream);
  zeroed(session.v, product(n_layers, v_layer_bytes(config)), session.stream);
  zeroed(session.flag, sizeof(Flag), session.stream);
  zeroed(session.rows, product(static_cast<size_t>(config.max_seqs), sizeof(int32_t)), session.stream);
  std::vector<int32_t> identity(product(static_cast<size_t>(config.max_seqs), static_cast<size_t>(config.blocks())));
  for (size_t i = 0; i < identity.size(); ++i) identity[i] = static_cast<int32_t>(i);
  upload(session.tables, identity, session.stream);
  session.layers.resize(n_layers);
  for (size_t i = 0; i < n_layers; ++i) {
    const Layer& layer = config.layers[i];
    upload(session.layers[i].inverse_frequencies, layer.inverse_frequencies, session.stream);
    upload(session.layers[i].k_scale, layer.k_scale, session.stream);
    upload(session.layers[i].v_scale, layer.v_scale, session.stream);
    upload(session.layers[i].sinks, layer.sinks, session.stream);
    upload(session.layers[i].alibi, layer.alibi, session.stream);
  }
  runtime::wait(session.stream); /* what was uploaded is about to go */
}

/* The configuration with what the shared checks take for the CPU's affair settled here. */
greta_config settled(const greta_config& asked) {
  std::string reason;
  const int count = runtime::device_count(&reason);
  if (count == 0) fail(GRETA_NO_DEVICE, "no device: %s", reason.c_str());
  if (asked.device < 0 || asked.device >= count) {
    fail(GRETA_NO_DEVICE, "config.device is %d, expected 0 .. %d", asked.device, count - 1);
  }
  greta_config own = asked;
  if (own.memory == GRETA_MEMORY_DEVICE) own.memory = GRETA_MEMORY_HOST;
  own.device = 0;
  own.stream = nullptr;
  if (own.schedule[GRETA_DECODE].splits == 0) own.schedule[GRETA_DECODE].splits = default_decode_splits;
  return own;
}

}  // namespace

void* Buffer::reserve(size_t bytes) {
  if (bytes <= bytes_) return data_;
  runtime::release(data_);
  data_ = nullptr;
  bytes_ = 0;
  data_ = runtime::allocate(bytes);
  bytes_ = bytes;
  return data_;
}

KernelChoice chosen_kernels() {
  const char* name = std::getenv("GRETA_HIP_KERNELS");
  if (name == nullptr || *name == '\0' || std::strcmp(name, "fast") == 0) return KernelChoice::fast;
  if (std::strcmp(name, "naive") == 0) return KernelChoice::naive;
  fail(GRETA_INVALID_ARGUMENT, "GRETA_HIP_KERNELS is '%s', expected fast or naive", name);
}

const char* kernel_name(KernelChoice choice, int32_t phase) {
  if (choice == KernelChoice::naive) return phase == GRETA_PREFILL ? "prefill_naive" : "decode_naive";
  return phase == GRETA_PREFILL ? "prefill_flash" : "decode_split";
}

void require_session(greta_session* session) {
  if (session == nullptr) fail(GRETA_INVALID_ARGUMENT, "session is NULL");
  runtime::use_device(session->device);
}

size_t k_layer_bytes(const Config& config) {
  const size_t rows = product(product(static_cast<size_t>(config.n_pages), static_cast<size_t>(config.page_size)),
                              static_cast<size_t>(config.n_kv_heads));
  return product(rows, static_cast<size_t>(config.head_dim_qk) * dtype_size(config.kv_dtype));
}

size_t v_layer_bytes(const Config& config) {
  return k_layer_bytes(config) / static_cast<size_t>(config.head_dim_qk) * static_cast<size_t>(config.head_dim_v);
}

CacheParams cache_of(const greta_session& session, int32_t layer) {
  const Config& config = session.config;
  CacheParams cache{};
  cache.k = session.k.as<char>() + static_cast<size_t>(layer) * k_layer_bytes(config);
  cache.v = session.v.as<char>() + static_cast<size_t>(layer) * v_layer_bytes(config);
  cache.n_kv_heads = config.n_kv_heads;
  cache.dqk = config.head_dim_qk;
  cache.dv = config.head_dim_v;
  cache.dtype = config.kv_dtype;
  cache.page_size = config.page_size;
  cache.n_pages = config.n_pages;
  cache.blocks = config.blocks();
  cache.max_len = config.max_len;
  cache.max_seqs = config.max_seqs;
  cache.flag = session.flag.as<Flag>();
  return cache;
}

const int32_t* pages_of(const greta_session& session, int32_t seq) {
  return session.tables.as<int32_t>() + static_cast<size_t>(seq) * static_cast<size_t>(session.config.blocks());
}

void finish_calls(greta_session& session) {
  Flag flag{};
  runtime::to_host(&flag, session.flag.get(), sizeof flag, session.stream);
  runtime::wait(session.stream);
  if (flag.complaint == complaint_none) return;
  runtime::zero(session.flag.get(), sizeof flag, session.stream);
  runtime::wait(session.stream);
  switch (flag.complaint) {
    case complaint_page:
      fail(GRETA_INVALID_ARGUMENT, "row %d lies on page %d, expected 0 .. %d", flag.where, flag.value,
           session.config.n_pages - 1);
    case complaint_kv_len:
      fail(GRETA_INVALID_ARGUMENT, "batch.kv_len[%d] is %d, expected 0 .. max_len %d", flag.where, flag.value,
           session.config.max_len);
    case complaint_cu_q:
      fail(GRETA_INVALID_ARGUMENT, "batch.cu_q[%d] is %d, expected ascending values that n_tokens and max_q_len allow",
           flag.where + 1, flag.value);
    case complaint_slot:
      fail(GRETA_INVALID_ARGUMENT, "batch.slots[%d] is %d, expected 0 .. %d", flag.where, flag.value,
           session.config.max_len - 1);
    case complaint_kv_start:
      fail(GRETA_INVALID_ARGUMENT, "batch.kv_start[%d] is %d, expected 0 .. kv_len", flag.where, flag.value);
    case complaint_seq_id:
      fail(GRETA_INVALID_ARGUMENT, "batch.seq_ids[%d] is %d, expected 0 .. %d", flag.where, flag.value,
           session.config.max_seqs - 1);
    default:
      fail(GRETA_INTERNAL, "a kernel complained of %d, which means nothing", flag.complaint);
  }
}

}  // namespace greta

greta_session::~greta_session() {
  if (own_stream) greta::runtime::destroy_stream(stream);
}

greta_status greta_open(const greta_config* config, greta_session** session) {
  return greta::guarded([&] {
    if (session == nullptr) greta::fail(GRETA_INVALID_ARGUMENT, "session is NULL");
    *session = nullptr;
    const bool readable = config != nullptr && config->struct_size == sizeof(greta_config);
    greta_config own = readable ? greta::settled(*config) : greta_config{};
    auto opened = std::make_unique<greta_session>();
    opened->config = greta::checked_config(readable ? &own : config);
    greta::check_schedule(opened->config, config->schedule[GRETA_PREFILL], GRETA_PREFILL);
    greta::check_schedule(opened->config, config->schedule[GRETA_DECODE], GRETA_DECODE);
    opened->choice = greta::chosen_kernels();
    opened->on_host = config->memory == GRETA_MEMORY_HOST;
    opened->device = config->device;
    greta::runtime::use_device(config->device);
    opened->functions = greta::functions_of(opened->config, opened->choice);
    opened->own_stream = config->stream == nullptr;
    opened->stream = config->stream == nullptr ? greta::runtime::create_stream() : config->stream;
    greta::fill_session(*opened);
    *session = opened.release();
  });
}

void greta_close(greta_session* session) {
  if (session == nullptr) return;
  greta::guarded([&] {
    greta::require_session(session);
    greta::runtime::wait(session->stream); /* what is running may read what is freed */
  });
  greta::session_closed(session);
  delete session;
}

greta_status greta_sync(greta_session* session) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::finish_calls(*session);
  });
}

greta_status greta_device_count(int32_t* count) {
  return greta::guarded([&] {
    if (count == nullptr) greta::fail(GRETA_INVALID_ARGUMENT, "count is NULL");
    std::string reason;
    *count = greta::runtime::device_count(&reason);
    if (*count == 0) greta::set_error(reason.c_str()); /* success, and greta_last_error says why there is none */
  });
}

int32_t greta_abi_version(void) {
  return GRETA_ABI_VERSION;
}

greta_status greta_counters(greta_session* session, greta_counter* counters, int32_t capacity, int32_t* count) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::check_counters(counters, capacity, count);
    *count = 0;
    for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
      if (session->calls[phase] == 0) continue;
      if (*count < capacity) {
        greta_counter& entry = counters[*count];
        entry = {};
        std::strncpy(entry.kernel, greta::kernel_name(session->choice, phase), sizeof entry.kernel - 1);
        entry.phase = phase;
        entry.calls = session->calls[phase];
      }
      ++*count;
    }
  });
}
