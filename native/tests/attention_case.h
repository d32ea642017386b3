/* A random attention configuration, and a session over random data in it. */
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <random>
#include <vector>

#include "check.h"
#include "greta_attn.h"

using Bytes = std::vector<unsigned char>;

struct Case {
  int32_t act, kv, heads, kv_heads, dqk, dv, page_size;
  float q_size; /* standard deviation of the queries */
  greta_schedule schedule[2];
  int32_t window;
  float softcap;
  std::vector<float> k_scale, v_scale, sinks, alibi; /* empty: NULL */
  int32_t max_len;
  std::vector<int32_t> q_len, kv_len, kv_start; /* by sequence */

  int32_t n_seqs() const { return static_cast<int32_t>(kv_len.size()); }
  int32_t group() const { return heads / kv_heads; }
  int32_t blocks() const { return page_size == 0 ? 0 : (max_len + page_size - 1) / page_size; }
  /* The keys that query i of a sequence sees, from the header's words: lo .. hi - 1, none where hi <= lo. */
  int32_t hi(int32_t seq, int32_t query) const {
    return kv_len[static_cast<size_t>(seq)] - q_len[static_cast<size_t>(seq)] + query + 1;
  }
  int32_t lo(int32_t seq, int32_t query) const { return first_key(seq, hi(seq, query)); }
  /* The first of the keys that end before `end`. */
  int32_t first_key(int32_t seq, int32_t end) const {
    return std::max(kv_start[static_cast<size_t>(seq)], window == 0 ? 0 : end - window);
  }
};

inline size_t size_of(int32_t dtype) {
  return dtype == GRETA_F32 ? 4 : dtype <= GRETA_F16 ? 2 : 1;
}

struct Format {
  int precision, bias; /* hidden bit included */
  double max;
};

inline Format format_of(int32_t dtype) {
  switch (dtype) {
    case GRETA_F32:
      return {24, 127, 0x1.fffffep127};
    case GRETA_BF16:
      return {8, 127, 0x1.fep127};
    case GRETA_F16:
      return {11, 15, 65504.0};
    case GRETA_FP8_E4M3FN:
      return {4, 7, 448.0};
    default:
      return {4, 8, 240.0};
  }
}

inline double unit(int32_t dtype) {
  return std::ldexp(1.0, -format_of(dtype).precision);
}

/* Half the distance of two subnormals. */
inline double half_subnormal(int32_t dtype) {
  const Format f = format_of(dtype);
  return std::ldexp(1.0, 1 - f.bias - f.precision);
}

/* To the nearest value of the type, ties to even; the fp8 types saturate. */
inline double rounded(int32_t dtype, double x) {
  const Format f = format_of(dtype);
  int exponent;
  std::frexp(x, &exponent);
  const int step = std::max(exponent, 2 - f.bias) - f.precision;
  const double y = std::ldexp(std::nearbyint(std::ldexp(x, -step)), step);
  if (std::fabs(y) <= f.max) return y;
  return std::copysign(dtype >= GRETA_FP8_E4M3FN ? f.max : static_cast<double>(INFINITY), x);
}

/* Decoded from sign, exponent and mantissa, unlike the library's bit tricks and tables. */
inline double decode(int32_t dtype, const unsigned char* p) {
  uint32_t bits = 0;
  std::memcpy(&bits, p, size_of(dtype));
  const Format f = format_of(dtype);
  const int width = static_cast<int>(8 * size_of(dtype)), mantissa_bits = f.precision - 1;
  const uint32_t top = uint32_t{1} << (width - 1);
  const auto mantissa = static_cast<int>(bits & ((uint32_t{1} << mantissa_bits) - 1u));
  const auto exponent = static_cast<int>((bits & (top - 1u)) >> mantissa_bits);
  const double sign = (bits & top) != 0 ? -1.0 : 1.0;
  if (dtype <= GRETA_F16 && exponent == 2 * f.bias + 1) {
    return mantissa != 0 ? static_cast<double>(NAN) : sign * static_cast<double>(INFINITY);
  }
  if (dtype == GRETA_FP8_E4M3FN ? (bits & 0x7fu) == 0x7f : dtype == GRETA_FP8_E4M3FNUZ && bits == 0x80) {
    return static_cast<double>(NAN);
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - f.bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - f.bias - mantissa_bits);
}

/* Any value of the type will do: the tests decode what was stored. */
inline void encode(int32_t dtype, float x, unsigned char* p) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (dtype == GRETA_F32) {
    std::memcpy(p, &bits, 4);
    return;
  }
  uint16_t h = static_cast<uint16_t>(bits >> 16);
  if (dtype == GRETA_F16) {
    const int exponent = static_cast<int>((bits >> 23) & 255u) - 127 + 15;
    h = static_cast<uint16_t>(((bits >> 16) & 0x8000u) |
                              (exponent <= 0 ? 0u : (static_cast<uint32_t>(exponent) << 10) | ((bits >> 13) & 0x3ffu)));
  }
  std::memcpy(p, &h, 2);
}

inline Bytes random_tensor(int32_t dtype, size_t n, std::mt19937& rng, float size = 1.0f) {
  std::normal_distribution<float> normal(0.0f, size);
  Bytes data(n * size_of(dtype));
  for (size_t i = 0; i < n; ++i) encode(dtype, normal(rng), &data[i * size_of(dtype)]);
  return data;
}

/* Picks: everything may meet everything, but for P in fp8 under a max that scores may exceed, which saturates. */
class Picker {
 public:
  explicit Picker(std::mt19937& rng) : rng_(rng) {}
  int32_t operator()(std::initializer_list<int32_t> values) {
    return values.begin()[std::uniform_int_distribution<size_t>(0, values.size() - 1)(rng_)];
  }
  bool once_in(int32_t n) { return std::uniform_int_distribution<int32_t>(1, n)(rng_) == 1; }
  float between(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(rng_); }
  std::vector<float> values(int32_t n, float lo, float hi) {
    std::vector<float> result;
    for (int32_t i = 0; i < n; ++i) result.push_back(between(lo, hi));
    return result;
  }

 private:
  std::mt19937& rng_;
};

inline Case random_case(std::mt19937& rng) {
  Picker pick(rng);
  Case c{};
  c.act = pick({GRETA_F32, GRETA_BF16, GRETA_F16});
  c.kv = pick({GRETA_F32, GRETA_BF16, GRETA_F16, GRETA_FP8_E4M3FN, GRETA_FP8_E4M3FNUZ});
  c.kv_heads = pick({1, 2, 3});
  c.heads = c.kv_heads * pick({1, 2, 3, 5});
  c.dqk = pick({16, 64, 24, 33, 1, 80, 96});
  c.dv = pick({16, 64, 40, 7, 96, 128});
  c.page_size = pick({0, 1, 5, 16, 200});
  c.q_size = 1.0f;
  if (pick.once_in(2)) c.window = pick({1, 2, 15, 16, 17, 40});
  if (pick.once_in(3)) c.softcap = pick.between(0.5f, 30.0f);
  if (pick.once_in(3)) c.sinks = pick.values(c.heads, -4.0f, 6.0f);
  if (!c.sinks.empty() && pick.once_in(3)) c.sinks[0] = -INFINITY;
  if (pick.once_in(3)) c.alibi = pick.values(c.heads, 0.0f, 0.5f);
  if (pick.once_in(3)) c.k_scale = pick.values(c.kv_heads, 0.01f, 3.0f);
  if (pick.once_in(3)) c.v_scale = pick.values(c.kv_heads, 0.01f, 3.0f);
  for (greta_schedule& schedule : c.schedule) {
    schedule.tile = pick({1, 7, 16, 31, 64, 1000});
    schedule.splits = pick({1, 2, 3, 9});
    schedule.direction = pick({GRETA_DIRECTION_DEFAULT, GRETA_FORWARD, GRETA_REVERSE});
    schedule.tile_origin = pick({GRETA_ORIGIN_DEFAULT, GRETA_ORIGIN_ZERO, GRETA_ORIGIN_WINDOW});
    schedule.max_update = pick({GRETA_MAX_DEFAULT, GRETA_MAX_EVERY_TILE, GRETA_MAX_LAZY, GRETA_MAX_NONE});
    schedule.max_threshold = schedule.max_update == GRETA_MAX_LAZY ? pick.between(0.0f, 2.0f) : 0.0f;
    schedule.p_dtype = pick({GRETA_F32, GRETA_BF16, GRETA_F16, GRETA_FP8_E4M3FN, GRETA_FP8_E4M3FNUZ});
    const bool above = schedule.max_update >= GRETA_MAX_LAZY, fp8 = schedule.p_dtype >= GRETA_FP8_E4M3FN;
    if (!above && pick.once_in(2)) schedule.p_scale = pick.between(0.25f, 240.0f);
    if (above && fp8) c.softcap = 4.0f;
  }
  c.max_len = 150;
  for (int32_t i = 0; i < 3; ++i) {
    const int32_t tile = c.schedule[1].tile % 97;
    const int32_t kv_len =
        std::min(c.max_len, std::max(0, pick({1, 2, tile - 1, tile, tile + 1, 2 * tile, 2 * tile + 1, 149})));
    c.kv_len.push_back(kv_len);
    c.q_len.push_back(std::min(kv_len + 2, pick({0, 1, 1, 2, 45})));
    c.kv_start.push_back(std::min(kv_len, std::max(0, pick({0, 0, 1, tile, kv_len - 1}))));
  }
  c.q_len[0] = std::max(1, c.q_len[0]);
  return c;
}

constexpr int32_t n_layers = 2, layer = 1; /* the other layer is there to be mistaken for it */

/* A session for the case whose cache holds NaN in every row. NULL where it cannot be opened. */
inline greta_session* open_poisoned(const Case& c, int32_t threads) {
  greta_layer_config layer_configs[n_layers] = {};
  const auto pointer = [](const std::vector<float>& x) { return x.empty() ? nullptr : x.data(); };
  greta_layer_config& own = layer_configs[layer];
  if (c.dqk > 1) own.rope = {10000.0, GRETA_ROPE_HALF, c.dqk / 2 * 2, nullptr};
  own.window = c.window;
  own.softcap = c.softcap;
  own.k_scale = pointer(c.k_scale);
  own.v_scale = pointer(c.v_scale);
  own.sinks = pointer(c.sinks);
  own.alibi = pointer(c.alibi);
  greta_config config{};
  config.struct_size = sizeof config;
  config.abi = GRETA_ABI_VERSION;
  config.n_layers = n_layers;
  config.n_heads = c.heads;
  config.n_kv_heads = c.kv_heads;
  config.head_dim_qk = c.dqk;
  config.head_dim_v = c.dv;
  config.max_seqs = c.n_seqs();
  config.max_len = c.max_len;
  config.page_size = c.page_size;
  config.n_pages = c.n_seqs() * c.blocks();
  config.act_dtype = c.act;
  config.kv_dtype = c.kv;
  config.threads = threads;
  config.schedule[0] = c.schedule[0];
  config.schedule[1] = c.schedule[1];
  config.layers = layer_configs;
  greta_session* session = nullptr;
  CHECK(greta_open(&config, &session) == GRETA_OK, "%s", greta_last_error());
  if (session == nullptr) return session;
  const auto rows = static_cast<size_t>(c.max_len) * static_cast<size_t>(c.kv_heads) * size_of(c.kv);
  const unsigned char nan = c.kv == GRETA_FP8_E4M3FNUZ ? 0x80 : 0xff;
  const Bytes k(rows * static_cast<size_t>(c.dqk), nan), v(rows * static_cast<size_t>(c.dv), nan);
  for (int32_t i = 0; i < n_layers; ++i) {
    for (int32_t seq = 0; seq < c.n_seqs(); ++seq) {
      CHECK(greta_kv_load(session, i, seq, 0, c.max_len, k.data(), v.data()) == GRETA_OK, "%s", greta_last_error());
    }
  }
  return session;
}

/* Pages for all sequences of the case, [n_seqs, blocks], in no order; empty where the cache is contiguous. */
inline std::vector<int32_t> shuffled_pages(const Case& c, std::mt19937& rng) {
  std::vector<int32_t> table(static_cast<size_t>(c.n_seqs() * c.blocks()));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  std::shuffle(table.begin(), table.end(), rng);
  return table;
}

/* A session whose cache holds the visible rows of each sequence, in permuted pages, among NaN; and the call's queries.
 * Sequence i of the batch is sequence seq_ids[i] of the session. */
class Setup {
 public:
  Setup(const Case& c, std::mt19937& rng, int32_t threads) : c_(c) {
    session = open_poisoned(c, threads);
    if (session == nullptr) return;
    fill(rng);
    for (int32_t q_len : c.q_len) cu_q.push_back(cu_q.back() + q_len);
    tokens = static_cast<size_t>(cu_q.back());
    for (size_t i = 0; i < tokens; ++i) any_.push_back(static_cast<int32_t>(i));
    q = random_tensor(c.act, tokens * heads() * dqk(), rng, c.q_size);
    batch_.cu_q = cu_q.data();
    batch_.n_tokens = cu_q.back();
    batch_.kv_start = c.kv_start.data();
    batch_.positions = batch_.slots = any_.data();
  }
  ~Setup() { greta_close(session); }
  Setup(const Setup&) = delete;
  Setup& operator=(const Setup&) = delete;

  /* q as [tokens, heads, dim], out as [heads, tokens, dim]: strides are strides */
  void attend(int32_t phase) {
    out.assign(tokens * heads() * dv() * size_of(c_.act), 0xab);
    lse.assign(tokens * heads(), 7.0f);
    const greta_tensor q_tensor{q.data(), c_.act, static_cast<int64_t>(heads() * dqk()), c_.dqk};
    const greta_tensor out_tensor{out.data(), c_.act, c_.dv, static_cast<int64_t>(tokens * dv())};
    const greta_tensor lse_tensor{lse.data(), GRETA_F32, static_cast<int64_t>(heads()), 1};
    CHECK(
        greta_attend(session, layer, phase, &batch_, &q_tensor, nullptr, nullptr, &out_tensor, &lse_tensor) == GRETA_OK,
        "%s", greta_last_error());
  }
  /* In place: q, and k [tokens, kv_heads, dim]. */
  void rope(int32_t phase, Bytes& k) {
    const greta_tensor q_tensor{q.data(), c_.act, static_cast<int64_t>(heads() * dqk()), c_.dqk};
    const greta_tensor k_tensor{k.data(), c_.act, static_cast<int64_t>(c_.kv_heads) * c_.dqk, c_.dqk};
    CHECK(greta_rope(session, layer, phase, &batch_, &q_tensor, &k_tensor) == GRETA_OK, "%s", greta_last_error());
  }
  /* The cache of the batch's sequence i, [max_len, kv_heads, dim]. */
  void read(int32_t i, Bytes& k, Bytes& v) const {
    k.resize(static_cast<size_t>(c_.max_len) * k_row());
    v.resize(static_cast<size_t>(c_.max_len) * v_row());
    greta_kv_read(session, layer, seq_ids[i], 0, c_.max_len, k.data(), v.data());
  }
  const unsigned char* query(size_t token, size_t head) const {
    return &q[(token * heads() + head) * dqk() * size_of(c_.act)];
  }
  const unsigned char* output(size_t token, size_t head) const {
    return &out[(head * tokens + token) * dv() * size_of(c_.act)];
  }

  greta_session* session = nullptr;
  std::vector<int32_t> cu_q{0};
  size_t tokens = 0;
  Bytes q, out;
  std::vector<float> lse; /* [tokens, heads] */

 private:
  size_t heads() const { return static_cast<size_t>(c_.heads); }
  size_t dqk() const { return static_cast<size_t>(c_.dqk); }
  size_t dv() const { return static_cast<size_t>(c_.dv); }
  size_t k_row() const { return static_cast<size_t>(c_.kv_heads) * dqk() * size_of(c_.kv); }
  size_t v_row() const { return static_cast<size_t>(c_.kv_heads) * dv() * size_of(c_.kv); }

  /* Rows from kv_start to kv_len in one call; those below kv_start stay NaN. */
  void fill(std::mt19937& rng) {
    table_ = shuffled_pages(c_, rng);
    std::vector<int32_t> cu{0}, slots;
    for (size_t i = 0; i < c_.kv_len.size(); ++i) {
      for (int32_t slot = c_.kv_start[i]; slot < c_.kv_len[i]; ++slot) slots.push_back(slot);
      cu.push_back(static_cast<int32_t>(slots.size()));
    }
    batch_.struct_size = sizeof batch_;
    batch_.n_seqs = c_.n_seqs();
    batch_.n_tokens = cu.back();
    batch_.max_q_len = batch_.max_kv_len = c_.max_len;
    batch_.cu_q = cu.data();
    batch_.kv_len = c_.kv_len.data();
    batch_.positions = batch_.slots = slots.data();
    batch_.seq_ids = seq_ids;
    batch_.block_table = table_.empty() ? nullptr : table_.data();
    const size_t rows = slots.size(), kv_heads = static_cast<size_t>(c_.kv_heads);
    Bytes k = random_tensor(c_.act, rows * kv_heads * dqk(), rng),
          v = random_tensor(c_.act, rows * kv_heads * dv(), rng);
    const greta_tensor k_tensor{k.data(), c_.act, static_cast<int64_t>(kv_heads * dqk()), c_.dqk};
    const greta_tensor v_tensor{v.data(), c_.act, static_cast<int64_t>(kv_heads * dv()), c_.dv};
    CHECK(rows == 0 || greta_kv_write(session, layer, &batch_, &k_tensor, &v_tensor) == GRETA_OK, "%s",
          greta_last_error());
  }

  const Case& c_;
  int32_t seq_ids[3] = {2, 0, 1};
  greta_batch batch_{};
  std::vector<int32_t> table_, any_;
};
