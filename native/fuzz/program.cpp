/* Sequences of open, rope, write, read, load, trim, attend, counters and close over sizes, types, page tables, lengths,
 * strides and NULLs, right and wrong, with allocations that fail. Every array has exactly the size that the header asks
 * for, so that a sanitizer sees any access beyond it. Promised whatever comes in:
 *   - a status of the header, never GRETA_INTERNAL, and one line of text for each failure;
 *   - what a failing call was to fill or change is as it was;
 *   - elements between a tensor's rows, and queries, are never written;
 *   - loaded rows are read back; trimmed rows read as zeros; the same attend twice gives the same bytes;
 *   - the counters are the calls of attend that went well. */
#include "program.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "allocations.h"
#include "greta_attn.h"
#include "isa.h"

namespace {

using Bytes = std::vector<unsigned char>;
__extension__ typedef __int128 Wide; /* strides times rows */

constexpr int32_t most_tokens = 24, most_seqs = 4;
constexpr int64_t most_bytes = 1 << 18; /* of one buffer */

Reached done{};

void promise(bool held, const char* call, const char* what) {
  if (held) return;
  std::fprintf(stderr, "broken promise of %s: %s (last error: '%s')\n", call, what, greta_last_error());
  std::abort();
}

size_t size_of(int32_t dtype) {
  return dtype == GRETA_F32 ? 4 : dtype <= GRETA_F16 ? 2 : 1;
}

/* Cheap noise; all bit patterns, infinities and NaN too. */
Bytes noise(Source& in, size_t n) {
  Bytes data(n);
  auto state = static_cast<uint32_t>(in.byte()) * 2654435761u + 1u;
  const bool ordinary = !in.once_in(4); /* f32 and bf16 near 1, f16 near 2e-4 .. 0.5 */
  for (size_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    data[i] = static_cast<unsigned char>(state >> 24);
    if (ordinary && i % 2 == 1) data[i] = static_cast<unsigned char>((data[i] & 0x80u) | 0x30u | (data[i] & 0x0fu));
  }
  return data;
}

/* One call. Its status is checked against the promises; `may` says that allocations may fail in it. */
template <class Body>
greta_status call(Source& in, const char* name, Body&& body) {
  greta_sync(nullptr); /* another line stands in greta_last_error from here on */
  const std::string before = greta_last_error();
  fail_allocation_after(in.once_in(24) ? in.below(8) : -1);
  const greta_status status = body();
  const bool failed_one = fail_allocation_after(-1);
  ++done.calls;
  promise(status >= GRETA_OK && status < GRETA_INTERNAL, name, "a status of the header, and not GRETA_INTERNAL");
  if (status == GRETA_OK) {
    ++done.ok;
    return status;
  }
  ++(status == GRETA_OUT_OF_MEMORY ? done.without_memory : done.refused);
  const std::string line = greta_last_error();
  promise(!line.empty() && line.find('\n') == std::string::npos, name, "one line for a failure");
  promise(line != before || line == "session is NULL", name, "a line of its own for each failure");
  promise(!failed_one || status == GRETA_OUT_OF_MEMORY, name, "GRETA_OUT_OF_MEMORY where an allocation failed");
  return status;
}

struct Tensor {
  Bytes data, before;
  greta_tensor tensor{};
  greta_tensor* argument = nullptr;
  std::vector<bool> inside; /* bytes that belong to an element */

  bool unchanged() const { return data == before; }
  bool gaps_unchanged() const {
    for (size_t i = 0; i < data.size(); ++i) {
      if (data[i] != before[i] && (i >= inside.size() || !inside[i])) return false;
    }
    return true;
  }
  bool same_as(const Tensor& other) const { return data == other.data; }
};

/* [tokens, heads, dim] with strides that hold it, or hostile ones; the buffer ends with the last element. */
void draw_tensor(Source& in, Tensor& t, int32_t dtype, int32_t tokens, int32_t heads, int32_t dim) {
  tokens = std::max(tokens, 1);
  int64_t head = dim + (in.once_in(3) ? in.below(5) : 0), token = heads * head + (in.once_in(3) ? in.below(5) : 0);
  if (in.once_in(3)) { /* heads outside */
    token = dim + in.below(3);
    head = tokens * token + in.below(3);
  }
  if (in.hostile()) token = in.or_hostile(static_cast<int32_t>(token));
  if (in.hostile()) head = in.or_hostile(static_cast<int32_t>(head));
  if (in.hostile()) token = int64_t{1} << in.below(63);
  const auto item = static_cast<int64_t>(size_of(dtype));
  const auto extent = [&] {
    const auto last = static_cast<Wide>(tokens - 1) * token + static_cast<Wide>(heads - 1) * head + dim;
    return last * item;
  };
  const bool dense = token >= 0 && head >= 0 && token <= int64_t{1} << 40 && head <= int64_t{1} << 40;
  if (dense && extent() > most_bytes) { /* right, and too large to hand over */
    head = dim;
    token = int64_t{heads} * dim;
  }
  /* negative, or beyond what the library takes: refused before the data is touched */
  const size_t bytes = dense && extent() <= 4 * most_bytes ? static_cast<size_t>(extent()) : 16;
  const size_t off = in.hostile() ? 1 : 0; /* misaligned */
  t.data = noise(in, bytes + off);
  t.before = t.data;
  t.inside.assign(t.data.size(), false);
  if (bytes != 16 || extent() == 16) {
    for (int64_t i = 0; i < tokens; ++i) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t begin = (i * token + h * head) * item + static_cast<int64_t>(off);
        std::fill_n(t.inside.begin() + begin, dim * item, true);
      }
    }
  }
  t.tensor = {in.hostile() ? nullptr : t.data.data() + off, in.hostile() ? in.or_hostile(dtype) : dtype, token, head};
  t.argument = in.hostile() ? nullptr : &t.tensor;
}

/* The configuration of one session, and the arrays behind its pointers. */
struct Drawn {
  greta_config config{};
  std::vector<greta_layer_config> layers;
  std::vector<std::vector<float>> floats;
  std::vector<std::vector<double>> doubles;

  int64_t blocks() const {
    return config.page_size <= 0 ? 1 : (int64_t{config.max_len} + config.page_size - 1) / config.page_size;
  }
};

constexpr int32_t most_layers = 3, most_heads = 64;

const float* draw_floats(Source& in, Drawn& d, int32_t n) {
  if (n <= 0 || n > most_heads || !in.once_in(3)) return nullptr;
  d.floats.emplace_back().reserve(static_cast<size_t>(n));
  for (int32_t i = 0; i < n; ++i) d.floats.back().push_back(in.number());
  return d.floats.back().data();
}

void draw_schedule(Source& in, greta_schedule& s) {
  s.tile = in.or_hostile(in.of({0, 1, 3, 8, 16, 17, 64, 1000}));
  s.splits = in.or_hostile(in.of({0, 1, 2, 3, 9, 64}));
  s.direction = in.or_hostile(in.below(3));
  s.tile_origin = in.or_hostile(in.below(3));
  s.max_update = in.or_hostile(in.below(4));
  s.max_threshold = s.max_update == GRETA_MAX_LAZY ? in.number() : 0.0f;
  s.p_dtype = in.or_hostile(in.below(5));
  s.p_scale = in.once_in(3) ? in.number() : 0.0f;
}

void draw_config(Source& in, Drawn& d) {
  greta_config& c = d.config;
  c.struct_size = in.hostile() ? static_cast<uint32_t>(in.word()) : static_cast<uint32_t>(sizeof c);
  c.abi = in.or_hostile(GRETA_ABI_VERSION);
  c.n_kv_heads = in.or_hostile(in.between(1, 3));
  c.n_heads = in.hostile() ? in.or_hostile(2) : std::clamp(c.n_kv_heads, -1, most_heads) * in.between(1, 4);
  c.head_dim_qk = in.or_hostile(in.of({1, 2, 4, 8, 8, 16, 16, 17, 24, 33, 64, 256}));
  c.head_dim_v = in.or_hostile(in.of({1, 2, 7, 8, 8, 16, 16, 17, 40, 64, 256}));
  c.max_seqs = in.or_hostile(in.between(1, most_seqs));
  c.max_len = in.or_hostile(in.of({1, 2, 15, 16, 17, 40, 64, 150}));
  c.page_size = in.or_hostile(in.of({0, 0, 1, 3, 5, 16, 64, 200}));
  c.n_pages = in.or_hostile(static_cast<int32_t>(
      std::min<int64_t>(int64_t{most_seqs} * d.blocks(), 1 << 16) / (in.once_in(4) ? 2 : 1) + in.below(3)));
  c.act_dtype = in.or_hostile(in.below(3));
  c.kv_dtype = in.or_hostile(in.below(5));
  c.softmax_scale = in.once_in(4) ? in.number() : 0.0f;
  c.memory = in.or_hostile(GRETA_MEMORY_HOST);
  c.device = in.or_hostile(0);
  c.stream = in.hostile() ? &c : nullptr;
  c.threads = in.or_hostile(in.of({1, 1, 1, 2, 3, 0}));
  for (greta_schedule& s : c.schedule) draw_schedule(in, s);
  /* an array can be no longer than its caller makes it: only numbers that must be refused go beyond it */
  c.n_layers = in.between(1, most_layers);
  d.layers.resize(static_cast<size_t>(c.n_layers));
  if (in.hostile()) c.n_layers = in.of({0, -1, INT32_MIN});
  const int32_t n_heads = c.n_heads, n_kv_heads = c.n_kv_heads;
  for (greta_layer_config& layer : d.layers) {
    layer.rope.base = in.hostile() ? static_cast<double>(in.number()) : 10000.0;
    layer.rope.style = in.or_hostile(in.below(3));
    layer.rope.rotary_dim = in.or_hostile(in.once_in(3) ? c.head_dim_qk / 4 * 2 : 0);
    if (in.once_in(3) && c.head_dim_qk > 0 && c.head_dim_qk <= 256) {
      d.doubles.emplace_back().reserve(static_cast<size_t>(c.head_dim_qk / 2));
      for (int32_t i = 0; i < c.head_dim_qk / 2; ++i) d.doubles.back().push_back(static_cast<double>(in.number()));
      layer.rope.factors = d.doubles.back().data();
    }
    layer.window = in.or_hostile(in.of({0, 0, 1, 2, 15, 16, 17, 40}));
    layer.softcap = in.once_in(3) ? in.number() : 0.0f;
    layer.k_scale = draw_floats(in, d, n_kv_heads);
    layer.v_scale = draw_floats(in, d, n_kv_heads);
    layer.sinks = draw_floats(in, d, n_heads);
    layer.alibi = draw_floats(in, d, n_heads);
  }
  c.layers = in.hostile() ? nullptr : d.layers.data();
}

struct Call {
  greta_batch batch{};
  const greta_batch* argument = nullptr;
  std::vector<int32_t> cu_q, kv_len, kv_start, positions, slots, seq_ids, table;
};

/* A sequence's table: mostly a permutation that all sequences share out, now and then any pages. */
void draw_table(Source& in, const Drawn& d, Call& c, int32_t n_seqs) {
  const int64_t blocks = d.blocks(), n_pages = std::max(d.config.n_pages, 1);
  if (d.config.page_size <= 0 || blocks * n_seqs > most_bytes / 4) return;
  const bool foreign = in.once_in(8);
  const auto shift = static_cast<int64_t>(in.below(7)), step = int64_t{in.of({1, 1, 3, 5, 7, 11})};
  for (int64_t i = 0; i < blocks * n_seqs; ++i) {
    const int64_t page = foreign ? in.below(8) : (c.seq_ids[static_cast<size_t>(i / blocks)] * blocks + i % blocks);
    c.table.push_back(static_cast<int32_t>((page * step + shift) % n_pages));
    if (i < 64) c.table.back() = in.or_hostile(c.table.back());
  }
}

void draw_batch(Source& in, const Drawn& d, Call& c) {
  greta_batch& b = c.batch;
  const int32_t n_seqs = in.between(1, most_seqs), max_len = std::clamp(d.config.max_len, 1, most_tokens);
  int32_t max_q = 0, max_kv = 0;
  c.cu_q.push_back(in.or_hostile(0));
  for (int32_t i = 0; i < n_seqs; ++i) {
    const int32_t rows = in.between(0, max_len);
    const int32_t room = most_tokens - std::clamp(c.cu_q.back(), 0, most_tokens);
    const int32_t q_len = std::min({in.once_in(2) ? 1 : in.between(0, max_len), room, max_len});
    c.kv_len.push_back(in.or_hostile(rows));
    c.kv_start.push_back(in.or_hostile(in.once_in(3) ? in.between(0, rows) : 0));
    c.seq_ids.push_back(in.or_hostile((i + in.below(2)) % std::clamp(d.config.max_seqs, 1, 255)));
    c.cu_q.push_back(in.or_hostile(std::clamp(c.cu_q.back(), 0, most_tokens) + q_len));
    max_q = std::max(max_q, q_len);
    max_kv = std::max(max_kv, rows);
    for (int32_t j = 0; j < q_len && c.slots.size() < most_tokens; ++j) {
      c.slots.push_back(in.or_hostile(rows >= q_len ? rows - q_len + j : j % max_len));
    }
  }
  draw_table(in, d, c, n_seqs);
  b.struct_size = in.hostile() ? static_cast<uint32_t>(in.word()) : static_cast<uint32_t>(sizeof b);
  b.n_seqs = in.hostile() ? in.of({0, -1, INT32_MIN, 1}) : n_seqs;
  const int32_t last = c.cu_q[static_cast<size_t>(std::clamp(b.n_seqs, 0, n_seqs))];
  b.n_tokens = in.or_hostile(last);
  /* a claim beyond the arrays is one that cu_q contradicts */
  if (b.n_tokens > most_tokens && b.n_tokens == last) b.n_tokens = most_tokens;
  c.slots.resize(static_cast<size_t>(std::clamp(b.n_tokens, 1, most_tokens)));
  for (size_t i = 0; i < c.slots.size(); ++i)
    c.positions.push_back(in.once_in(16) ? in.word() : static_cast<int32_t>(i));
  for (auto* array : {&c.cu_q, &c.kv_len, &c.kv_start, &c.positions, &c.slots, &c.seq_ids, &c.table}) {
    *array = std::vector<int32_t>(*array); /* a copy has no room behind its end */
  }
  b.max_q_len = in.or_hostile(max_q + in.below(2));
  b.max_kv_len = in.or_hostile(max_kv + in.below(2));
  const auto pointer = [&](const std::vector<int32_t>& array) { return in.hostile() ? nullptr : array.data(); };
  b.cu_q = pointer(c.cu_q);
  b.kv_len = pointer(c.kv_len);
  b.kv_start = in.once_in(2) ? pointer(c.kv_start) : nullptr;
  b.positions = pointer(c.positions);
  b.slots = pointer(c.slots);
  b.seq_ids = pointer(c.seq_ids);
  b.block_table = c.table.empty() ? nullptr : pointer(c.table);
  c.argument = in.hostile() ? nullptr : &b;
}

class Session {
 public:
  explicit Session(Source& in) : in_(in) {}
  ~Session() { greta_close(session_); }

  bool open() {
    draw_config(in_, d_);
    const greta::Isa* isas = greta::usable_isas();
    int32_t n = 0;
    while (isas[n].name != nullptr) ++n;
    setenv("GRETA_CPU_ISA", isas[in_.below(n)].name, 1);
    session_ = reinterpret_cast<greta_session*>(&d_); /* a failing open must clear it */
    const greta_config* config = in_.hostile() ? nullptr : &d_.config;
    const greta_status status = call(in_, "greta_open", [&] { return greta_open(config, &session_); });
    promise((status == GRETA_OK) == (session_ != nullptr), "greta_open", "a session, or NULL where it fails");
    return session_ != nullptr;
  }

  void step() {
    switch (in_.below(8)) {
      case 0:
        return rope();
      case 1:
      case 2:
        return write();
      case 3:
        return read_and_load();
      case 4:
        return trim();
      case 5:
        return count();
      default:
        return attend();
    }
  }

 private:
  const greta_config& config() const { return d_.config; }
  int32_t layer() { return in_.or_hostile(in_.below(config().n_layers)); }
  int32_t seq() { return in_.or_hostile(in_.below(std::min(config().max_seqs, most_seqs))); }
  greta_session* session() { return in_.hostile() ? nullptr : session_; }
  int32_t rows_of(const Call& c) const { return std::clamp(c.batch.n_tokens, 1, most_tokens); }
  size_t k_row() const { return row(config().head_dim_qk); }
  size_t v_row() const { return row(config().head_dim_v); }
  size_t row(int32_t dim) const {
    return static_cast<size_t>(config().n_kv_heads) * static_cast<size_t>(dim) * size_of(config().kv_dtype);
  }
  bool small() const {
    return static_cast<int64_t>(k_row() + v_row()) * config().max_len <= most_bytes && config().n_heads <= most_heads;
  }

  /* All rows of a sequence in a layer, or nothing where that is much or refused. */
  Bytes snapshot(int32_t layer, int32_t seq) {
    if (!small()) return {};
    const auto n = static_cast<size_t>(config().max_len);
    Bytes k(n * k_row()), v(n * v_row());
    if (greta_kv_read(session_, layer, seq, 0, config().max_len, k.data(), v.data()) != GRETA_OK) return {};
    k.insert(k.end(), v.begin(), v.end());
    return k;
  }
  std::vector<Bytes> snapshots() {
    std::vector<Bytes> all;
    if (config().n_layers * config().max_seqs > 16) return all;
    for (int32_t layer = 0; layer < config().n_layers; ++layer) {
      for (int32_t seq = 0; seq < config().max_seqs; ++seq) all.push_back(snapshot(layer, seq));
    }
    return all;
  }

  void rope() {
    Call c;
    draw_batch(in_, d_, c);
    if (!small()) return;
    Tensor q, k;
    draw_tensor(in_, q, config().act_dtype, rows_of(c), config().n_heads, config().head_dim_qk);
    draw_tensor(in_, k, config().act_dtype, rows_of(c), config().n_kv_heads, config().head_dim_qk);
    const int32_t at = layer(), phase = in_.or_hostile(in_.below(2));
    greta_session* s = session();
    const greta_status status =
        call(in_, "greta_rope", [&] { return greta_rope(s, at, phase, c.argument, q.argument, k.argument); });
    promise(status == GRETA_OK || (q.unchanged() && k.unchanged()), "greta_rope", "nothing changes where it fails");
    promise(q.gaps_unchanged() && k.gaps_unchanged(), "greta_rope", "nothing changes between the rows");
  }

  void write() {
    Call c;
    draw_batch(in_, d_, c);
    if (!small()) return;
    Tensor k, v;
    draw_tensor(in_, k, config().act_dtype, rows_of(c), config().n_kv_heads, config().head_dim_qk);
    draw_tensor(in_, v, config().act_dtype, rows_of(c), config().n_kv_heads, config().head_dim_v);
    const int32_t at = layer();
    greta_session* s = session();
    const bool look = in_.once_in(4);
    const std::vector<Bytes> before = look ? snapshots() : std::vector<Bytes>{};
    const greta_status status =
        call(in_, "greta_kv_write", [&] { return greta_kv_write(s, at, c.argument, k.argument, v.argument); });
    promise(k.unchanged() && v.unchanged(), "greta_kv_write", "k and v are only read");
    promise(!look || status == GRETA_OK || snapshots() == before, "greta_kv_write", "no row changes where it fails");
  }

  void read_and_load() {
    const int32_t at = layer(), who = seq(), first = in_.below(std::min(config().max_len, 64)),
                  start = in_.or_hostile(first),
                  count = in_.or_hostile(in_.below(std::min(config().max_len - first, 64)));
    if (static_cast<int64_t>(k_row() + v_row()) * count > most_bytes) return;
    const auto n = static_cast<size_t>(std::max(count, 0));
    const Bytes k = noise(in_, n * k_row()), v = noise(in_, n * v_row());
    Bytes k_back = noise(in_, n * k_row()), v_back = noise(in_, n * v_row());
    const Bytes k_before = k_back, v_before = v_back;
    const auto data = [&](auto& bytes) { return in_.hostile() ? nullptr : bytes.data(); };
    const void *k_in = data(k), *v_in = data(v);
    void *k_out = data(k_back), *v_out = data(v_back);
    greta_session* s = session();
    const greta_status loaded =
        call(in_, "greta_kv_load", [&] { return greta_kv_load(s, at, who, start, count, k_in, v_in); });
    s = session();
    const greta_status read =
        call(in_, "greta_kv_read", [&] { return greta_kv_read(s, at, who, start, count, k_out, v_out); });
    promise(read == GRETA_OK || (k_back == k_before && v_back == v_before), "greta_kv_read", "nothing where it fails");
    if (loaded != GRETA_OK || read != GRETA_OK || config().page_size > 0) return; /* pages may be shared */
    promise(k_back == k && v_back == v, "greta_kv_read", "the rows that were just loaded");
  }

  void trim() {
    const int32_t who = seq(), len = in_.or_hostile(in_.below(std::min(config().max_len, 200) + 1));
    greta_session* s = session();
    if (call(in_, "greta_kv_trim", [&] { return greta_kv_trim(s, who, len); }) != GRETA_OK) return;
    if (config().page_size > 0 || !small() || len == config().max_len) return;
    const auto n = static_cast<size_t>(config().max_len - len);
    Bytes k(n * k_row(), 1), v(n * v_row(), 1);
    for (int32_t at = 0; at < config().n_layers; ++at) {
      promise(greta_kv_read(session_, at, who, len, config().max_len - len, k.data(), v.data()) == GRETA_OK,
              "greta_kv_trim", "the rows can still be read");
      const auto zero = [](unsigned char byte) { return byte == 0; };
      promise(std::all_of(k.begin(), k.end(), zero) && std::all_of(v.begin(), v.end(), zero), "greta_kv_trim",
              "zeros from len on");
    }
  }

  void count() {
    const int32_t capacity = in_.or_hostile(in_.below(4));
    std::vector<greta_counter> counters(static_cast<size_t>(std::clamp(capacity, 0, 64)));
    if (capacity > 64) counters.resize(64); /* more kernels than any library has */
    int32_t n = -7, *where = in_.hostile() ? nullptr : &n;
    greta_counter* array = in_.hostile() ? nullptr : counters.data();
    greta_session* s = session();
    const greta_status status = call(in_, "greta_counters", [&] { return greta_counters(s, array, capacity, where); });
    promise(status == GRETA_OK || n == -7, "greta_counters", "nothing where it fails");
    if (status != GRETA_OK || capacity < 2) return;
    promise(n >= 0 && n <= 2, "greta_counters", "one kernel a phase");
    int64_t calls[2] = {};
    for (int32_t i = 0; i < n; ++i)
      calls[counters[static_cast<size_t>(i)].phase] += counters[static_cast<size_t>(i)].calls;
    promise(calls[0] == attended_[0] && calls[1] == attended_[1], "greta_counters", "the attends that went well");
  }

  void attend() {
    Call c;
    draw_batch(in_, d_, c);
    if (!small()) return;
    Tensor q, out, lse, k_new;
    draw_tensor(in_, q, config().act_dtype, rows_of(c), config().n_heads, config().head_dim_qk);
    draw_tensor(in_, out, config().act_dtype, rows_of(c), config().n_heads, config().head_dim_v);
    draw_tensor(in_, lse, GRETA_F32, rows_of(c), config().n_heads, 1);
    draw_tensor(in_, k_new, config().act_dtype, 1, config().n_kv_heads, config().head_dim_qk);
    const int32_t at = layer(), phase = in_.or_hostile(in_.below(2));
    const greta_tensor *fresh_k = in_.hostile() ? k_new.argument : nullptr,
                       *fresh_v = in_.hostile() ? k_new.argument : nullptr,
                       *lse_argument = in_.once_in(4) ? nullptr : lse.argument;
    greta_session* s = session();
    const auto again = [&](Tensor& o, Tensor& l) {
      return greta_attend(s, at, phase, c.argument, q.argument, fresh_k, fresh_v, o.argument, l.argument);
    };
    Tensor out_again = out, lse_again = lse;
    out.argument = out.argument == nullptr ? nullptr : &out.tensor;
    lse.argument = lse_argument == nullptr ? nullptr : &lse.tensor;
    const greta_status status = call(in_, "greta_attend", [&] { return again(out, lse); });
    promise(q.unchanged(), "greta_attend", "q is only read");
    promise(status == GRETA_OK || (out.unchanged() && lse.unchanged()), "greta_attend", "nothing where it fails");
    promise(out.gaps_unchanged() && lse.gaps_unchanged(), "greta_attend", "nothing between the rows");
    if (status != GRETA_OK) return;
    ++attended_[phase];
    const auto move = [](Tensor& copy, const Tensor& original, const greta_tensor* argument) {
      copy.argument = argument == nullptr ? nullptr : &copy.tensor;
      if (argument == nullptr) return;
      copy.tensor.data = copy.data.data() + (static_cast<unsigned char*>(original.tensor.data) - original.data.data());
    };
    move(out_again, out, out.argument);
    move(lse_again, lse, lse.argument);
    promise(again(out_again, lse_again) == GRETA_OK, "greta_attend", "what went well goes well again");
    ++attended_[phase];
    promise(out.same_as(out_again) && lse.same_as(lse_again), "greta_attend", "the same bytes from the same call");
  }

  Source& in_;
  Drawn d_;
  greta_session* session_ = nullptr;
  int64_t attended_[2] = {};
};

}  // namespace

const Reached& reached() {
  return done;
}

void run_program(Source& in) {
  for (int sessions = 0; sessions < 2 && in.left(); ++sessions) {
    Session session(in);
    if (!session.open()) continue;
    for (int steps = 0; steps < 24 && in.left(); ++steps) session.step();
  }
}
