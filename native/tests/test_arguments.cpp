/* What no Python test can reach without breaking its own rules: NULL pointers, foreign sizes, misalignment. */
#include <cstring>
#include <vector>

#include "check.h"
#include "greta_attn.h"

namespace {

void expect(greta_status status, greta_status wanted, const char* fragment) {
  CHECK(status == wanted, "status %d, expected %d (%s)", status, wanted, fragment);
  CHECK(std::strstr(greta_last_error(), fragment) != nullptr, "'%s' lacks '%s'", greta_last_error(), fragment);
  CHECK(std::strchr(greta_last_error(), '\n') == nullptr, "more than one line: '%s'", greta_last_error());
}

constexpr greta_status bad = GRETA_INVALID_ARGUMENT;

}  // namespace

int main() {
  greta_layer_config layer{};
  layer.rope = {10000.0, GRETA_ROPE_HALF, 0, nullptr};
  greta_config config{};
  config.struct_size = sizeof config;
  config.abi = GRETA_ABI_VERSION;
  config.n_layers = config.max_seqs = 1;
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.head_dim_qk = config.head_dim_v = 4;
  config.max_len = 8;
  config.page_size = 4;
  config.n_pages = 2;
  config.layers = &layer;

  greta_session* session = nullptr;
  expect(greta_open(nullptr, &session), bad, "config is NULL");
  expect(greta_open(&config, nullptr), bad, "session is NULL");
  greta_config other = config;
  other.struct_size = 8;
  session = reinterpret_cast<greta_session*>(&other);
  expect(greta_open(&other, &session), bad, "struct_size is 8");
  CHECK(session == nullptr, "a failed open must leave NULL");
  other = config;
  other.abi = 2;
  expect(greta_open(&other, &session), bad, "abi is 2");
  other = config;
  other.layers = nullptr;
  expect(greta_open(&other, &session), bad, "layers is NULL");
  other = config;
  other.memory = 7;
  expect(greta_open(&other, &session), bad, "memory is 7");
  other = config;
  other.memory = GRETA_MEMORY_DEVICE;
  expect(greta_open(&other, &session), GRETA_UNSUPPORTED, "memory: ");
  other = config;
  other.stream = &other;
  expect(greta_open(&other, &session), GRETA_UNSUPPORTED, "stream: ");
  other = config;
  other.page_size = 1 << 20;
  other.n_pages = 1 << 30;
  other.max_len = 1 << 24;
  expect(greta_open(&other, &session), GRETA_OUT_OF_MEMORY, "out of memory");
  other = config;
  other.max_len = 0x7fffffff;
  expect(greta_open(&other, &session), GRETA_UNSUPPORTED, "max_len: ");

  CHECK(greta_open(&config, &session) == GRETA_OK, "%s", greta_last_error());
  const int32_t cu_q[] = {0, 1}, one[] = {1}, zero[] = {0}, table[] = {1, 0};
  greta_batch batch{sizeof batch, 1, 1, 1, 1, cu_q, one, nullptr, zero, zero, zero, table};
  alignas(16) char storage[64] = {};
  float out[8], lse[2];
  greta_tensor q{storage, GRETA_F32, 8, 4}, o{out, GRETA_F32, 8, 4}, l{lse, GRETA_F32, 2, 1};
  const auto attend = [&](const greta_batch* b, const greta_tensor* query, const greta_tensor* result) {
    return greta_attend(session, 0, GRETA_DECODE, b, query, nullptr, nullptr, result, &l);
  };
  CHECK(attend(&batch, &q, &o) == GRETA_OK, "%s", greta_last_error());
  CHECK(greta_attend(session, 0, GRETA_DECODE, &batch, &q, nullptr, nullptr, &o, nullptr) == GRETA_OK,
        "lse may be NULL");
  expect(attend(nullptr, &q, &o), bad, "batch is NULL");
  expect(attend(&batch, nullptr, &o), bad, "q is NULL");
  expect(attend(&batch, &q, nullptr), bad, "out is NULL");
  expect(greta_attend(nullptr, 0, 0, &batch, &q, nullptr, nullptr, &o, &l), bad, "session is NULL");
  expect(greta_attend(session, 0, 0, &batch, &q, &q, nullptr, &o, &l), bad, "k_new is set");
  expect(greta_attend(session, 0, 0, &batch, &q, nullptr, &q, &o, &l), bad, "v_new is set");
  greta_batch broken = batch;
  broken.struct_size = 1;
  expect(attend(&broken, &q, &o), bad, "struct_size is 1");
  for (const char* name : {"cu_q", "kv_len", "positions", "slots", "seq_ids", "block_table"}) {
    broken = batch;
    const int32_t** fields[] = {&broken.cu_q,  &broken.kv_len,  &broken.positions,
                                &broken.slots, &broken.seq_ids, &broken.block_table};
    int index = 0;
    for (const char* field : {"cu_q", "kv_len", "positions", "slots", "seq_ids", "block_table"}) {
      if (std::strcmp(field, name) == 0) *fields[index] = nullptr;
      ++index;
    }
    expect(attend(&broken, &q, &o), bad, name);
    expect(attend(&broken, &q, &o), bad, "is NULL");
  }
  const auto with = [&](int64_t token_stride, int64_t head_stride, int32_t dtype, void* data) {
    return greta_tensor{data, dtype, token_stride, head_stride};
  };
  greta_tensor t = with(8, 4, GRETA_F32, nullptr);
  expect(attend(&batch, &t, &o), bad, "q.data is NULL");
  t = with(8, 4, GRETA_BF16, storage);
  expect(attend(&batch, &t, &o), bad, "q.dtype is bf16 (1), expected f32");
  t = with(8, 4, 77, storage);
  expect(attend(&batch, &t, &o), bad, "q.dtype is unknown (77)");
  t = with(3, 4, GRETA_F32, storage);
  expect(attend(&batch, &t, &o), bad, "token_stride 3");
  t = with(8, 3, GRETA_F32, storage);
  expect(attend(&batch, &t, &o), bad, "head_stride 3");
  t = with(-8, -4, GRETA_F32, storage);
  expect(attend(&batch, &t, &o), bad, "too small");
  t = with(INT64_MAX, INT64_MAX, GRETA_F32, storage);
  expect(attend(&batch, &t, &o), bad, "2^40");
  t = with(8, 4, GRETA_F32, storage + 1);
  expect(attend(&batch, &t, &o), bad, "not aligned");
  t = with(8, 4, GRETA_F32, storage);
  expect(greta_rope(session, 0, 0, &batch, &q, nullptr), bad, "k is NULL");
  expect(greta_kv_write(session, 0, &batch, nullptr, &t), bad, "k is NULL");
  expect(greta_kv_write(session, 0, &batch, &t, nullptr), bad, "v is NULL");
  expect(greta_kv_read(session, 0, 0, 0, 1, nullptr, out), bad, "k is NULL");
  expect(greta_kv_load(session, 0, 0, 0, 1, out, nullptr), bad, "v is NULL");
  int32_t count = 0;
  greta_counter counter{};
  expect(greta_counters(session, &counter, 1, nullptr), bad, "count is NULL");
  expect(greta_counters(session, nullptr, 1, &count), bad, "counters is NULL");
  expect(greta_counters(session, &counter, -1, &count), bad, "capacity is -1");
  CHECK(greta_counters(session, nullptr, 0, &count) == GRETA_OK && count == 1, "count %d", count);
  CHECK(greta_counters(session, &counter, 1, &count) == GRETA_OK && counter.calls == 2, "%lld calls",
        static_cast<long long>(counter.calls));
  expect(greta_device_count(nullptr), bad, "count is NULL");
  expect(greta_sync(nullptr), bad, "session is NULL");
  CHECK(greta_sync(session) == GRETA_OK, "sync");
  greta_close(session);
  greta_close(nullptr);
  return check::finish("arguments");
}
