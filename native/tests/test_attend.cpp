/* Every kernel of every instruction set against a plain double reference over what lies in the cache: types, page sizes
 * with permuted tables, ragged batches, left padding, GQA ratios, tiles, splits, lengths around tile boundaries, unused
 * rows full of NaN. Prints how much of the bound the worst element used. */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "greta_attn.h"
#include "isa.h"

namespace {

using Bytes = std::vector<unsigned char>;

struct Case {
  int32_t act, kv, heads, kv_heads, dqk, dv, page_size;
  greta_schedule schedule[2];
  int32_t q_len[3], kv_len[3], kv_start[3];
};

size_t size_of(int32_t dtype) {
  return dtype == GRETA_F32 ? 4 : 2;
}

/* Decoded from sign, exponent and mantissa, unlike the library's bit tricks. */
double decode(int32_t dtype, const unsigned char* p) {
  if (dtype == GRETA_F32) {
    float x;
    std::memcpy(&x, p, 4);
    return static_cast<double>(x);
  }
  uint16_t h;
  std::memcpy(&h, p, 2);
  const int mantissa_bits = dtype == GRETA_BF16 ? 7 : 10, bias = dtype == GRETA_BF16 ? 127 : 15;
  const int mantissa = h & ((1 << mantissa_bits) - 1), exponent = (h & 0x7fff) >> mantissa_bits;
  const double sign = (h & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 2 * bias + 1) return mantissa != 0 ? static_cast<double>(NAN) : sign * static_cast<double>(INFINITY);
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

/* Any value of the type will do: the test decodes what it stored. */
void encode(int32_t dtype, float x, unsigned char* p) {
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

Bytes random_tensor(int32_t dtype, size_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  Bytes data(n * size_of(dtype));
  for (size_t i = 0; i < n; ++i) encode(dtype, normal(rng), &data[i * size_of(dtype)]);
  return data;
}

double worst_share = 0.0;

/* The bounds of docs/concepts/numerics.md: lse, and attention in the ENV form with P in f32; first tier, c = 5. */
void compare_row(const Case& c, const unsigned char* q, const Bytes& k, const Bytes& v, int32_t kv_head, int32_t lo,
                 int32_t hi, const unsigned char* out, float lse, const greta_schedule& schedule) {
  const double u = 0x1p-24, scale = static_cast<double>(static_cast<float>(1.0 / std::sqrt(c.dqk)));
  const auto at = [&](const Bytes& rows, int32_t row, int32_t dim, int32_t i) {
    return decode(c.kv,
                  &rows[((static_cast<size_t>(row) * static_cast<size_t>(c.kv_heads) + static_cast<size_t>(kv_head)) *
                             static_cast<size_t>(dim) +
                         static_cast<size_t>(i)) *
                        size_of(c.kv)]);
  };
  const int32_t n = hi - lo;
  if (n <= 0) {
    CHECK(lse == -INFINITY, "lse of an empty row is %g", static_cast<double>(lse));
    for (int32_t i = 0; i < c.dv; ++i) {
      const double value = decode(c.act, out + static_cast<size_t>(i) * size_of(c.act));
      CHECK(value == 0.0, "out of an empty row is %g", value);
    }
    return;
  }
  std::vector<double> s(static_cast<size_t>(n)), a(static_cast<size_t>(n)), p(static_cast<size_t>(n));
  double m = -1e300, l = 0.0;
  for (int32_t j = 0; j < n; ++j) {
    double dot = 0.0, magnitude = 0.0;
    for (int32_t i = 0; i < c.dqk; ++i) {
      const double term = decode(c.act, q + static_cast<size_t>(i) * size_of(c.act)) * at(k, lo + j, c.dqk, i);
      dot += term;
      magnitude += std::fabs(term);
    }
    s[static_cast<size_t>(j)] = scale * dot;
    a[static_cast<size_t>(j)] = scale * magnitude;
    m = std::max(m, scale * dot);
  }
  for (double& weight : p) l += weight = std::exp(s[static_cast<size_t>(&weight - p.data())] - m);
  const double tiles = std::ceil(static_cast<double>(n) / schedule.tile) + schedule.splits;
  double mean_eps = 0.0;
  std::vector<double> eps(p.size());
  for (size_t j = 0; j < p.size(); ++j) {
    p[j] /= l;
    const double ds = u * (5.0 * std::sqrt(c.dqk) * a[j] + 3.0 * std::fabs(s[j]));
    eps[j] = ds + u * (2.0 * std::fabs(s[j] - m) +
                       (2.0 * std::max(std::fabs(m), std::fabs(s[j])) + 4.0) * (1.0 + 5.0 * std::sqrt(tiles)));
    mean_eps += p[j] * eps[j];
  }
  const double true_lse = m + std::log(l);
  const double lse_bound = mean_eps + 5.0 * std::sqrt(n) * u + 2.0 * u * std::fabs(true_lse) + 4.0 * u;
  const double lse_share = std::fabs(static_cast<double>(lse) - true_lse) / lse_bound;
  CHECK(lse_share <= 1.0, "lse %.9g, true %.9g, bound %g", static_cast<double>(lse), true_lse, lse_bound);
  worst_share = std::max(worst_share, lse_share);
  const double u_act = c.act == GRETA_F32 ? 0x1p-24 : c.act == GRETA_BF16 ? 0x1p-8 : 0x1p-11;
  for (int32_t i = 0; i < c.dv; ++i) {
    double o = 0.0, size = 0.0, spread = 0.0;
    for (size_t j = 0; j < p.size(); ++j) o += p[j] * at(v, lo + static_cast<int32_t>(j), c.dv, i);
    for (size_t j = 0; j < p.size(); ++j) {
      const double value = at(v, lo + static_cast<int32_t>(j), c.dv, i);
      size += p[j] * std::fabs(value);
      spread += p[j] * eps[j] * std::fabs(value - o);
    }
    const double core = spread + 4.0 * u * std::fabs(o) + 5.0 * std::sqrt(n) * u * (size + std::fabs(o)) + u * size;
    const double value = decode(c.act, out + static_cast<size_t>(i) * size_of(c.act));
    const double rounding = c.act == GRETA_F16 ? std::max(u_act * std::fabs(value), 0x1p-25) : u_act * std::fabs(value);
    const double error = std::max(0.0, std::fabs(value - o) - rounding);
    CHECK(error <= core, "out %.9g, true %.9g, bound %g", value, o, core);
    if (!(error <= core)) return;
    worst_share = std::max(worst_share, error / core);
  }
}

void run(const Case& c, std::mt19937& rng) {
  constexpr int32_t n_seqs = 3, max_len = 150, layers = 2, layer = 1;
  const int32_t blocks = c.page_size == 0 ? 0 : (max_len + c.page_size - 1) / c.page_size;
  greta_layer_config layer_configs[layers] = {};
  greta_config config{};
  config.struct_size = sizeof config;
  config.abi = GRETA_ABI_VERSION;
  config.n_layers = layers;
  config.n_heads = c.heads;
  config.n_kv_heads = c.kv_heads;
  config.head_dim_qk = c.dqk;
  config.head_dim_v = c.dv;
  config.max_seqs = n_seqs;
  config.max_len = max_len;
  config.page_size = c.page_size;
  config.n_pages = n_seqs * blocks;
  config.act_dtype = c.act;
  config.kv_dtype = c.kv;
  config.threads = 2;
  config.schedule[0] = c.schedule[0];
  config.schedule[1] = c.schedule[1];
  config.layers = layer_configs;
  greta_session* session = nullptr;
  CHECK(greta_open(&config, &session) == GRETA_OK, "%s", greta_last_error());
  if (session == nullptr) return;

  const auto kv_heads = static_cast<size_t>(c.kv_heads), dqk = static_cast<size_t>(c.dqk),
             dv = static_cast<size_t>(c.dv);
  const size_t k_row = kv_heads * dqk, v_row = kv_heads * dv;
  const Bytes nan_k(max_len * k_row * size_of(c.kv), 0xff), nan_v(max_len * v_row * size_of(c.kv), 0xff);
  for (int32_t i = 0; i < layers; ++i) {
    for (int32_t seq = 0; seq < n_seqs; ++seq) {
      CHECK(greta_kv_load(session, i, seq, 0, max_len, nan_k.data(), nan_v.data()) == GRETA_OK, "%s",
            greta_last_error());
    }
  }
  std::vector<int32_t> table(static_cast<size_t>(n_seqs * blocks));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  std::shuffle(table.begin(), table.end(), rng);
  int32_t seq_ids[n_seqs] = {2, 0, 1};

  /* All visible rows are written in one call, then the queries at each sequence's end attend. Rows below kv_start stay
   * NaN. */
  std::vector<int32_t> cu{0}, slots;
  for (int32_t i = 0; i < n_seqs; ++i) {
    for (int32_t slot = c.kv_start[i]; slot < c.kv_len[i]; ++slot) slots.push_back(slot);
    cu.push_back(static_cast<int32_t>(slots.size()));
  }
  greta_batch batch{};
  batch.struct_size = sizeof batch;
  batch.n_seqs = n_seqs;
  batch.n_tokens = cu.back();
  batch.max_q_len = batch.max_kv_len = max_len;
  batch.cu_q = cu.data();
  batch.kv_len = c.kv_len;
  batch.positions = batch.slots = slots.data();
  batch.seq_ids = seq_ids;
  batch.block_table = blocks == 0 ? nullptr : table.data();
  const auto rows = static_cast<size_t>(batch.n_tokens);
  Bytes k = random_tensor(c.act, rows * k_row, rng), v = random_tensor(c.act, rows * v_row, rng);
  const greta_tensor k_tensor{k.data(), c.act, static_cast<int64_t>(k_row), c.dqk};
  const greta_tensor v_tensor{v.data(), c.act, static_cast<int64_t>(v_row), c.dv};
  CHECK(rows == 0 || greta_kv_write(session, layer, &batch, &k_tensor, &v_tensor) == GRETA_OK, "%s",
        greta_last_error());

  std::vector<int32_t> cu_q{0};
  for (int32_t i = 0; i < n_seqs; ++i) cu_q.push_back(cu_q.back() + c.q_len[i]);
  const auto tokens = static_cast<size_t>(cu_q.back()), heads = static_cast<size_t>(c.heads);
  std::vector<int32_t> any(tokens, 0);
  batch.cu_q = cu_q.data();
  batch.n_tokens = cu_q.back();
  batch.kv_start = c.kv_start;
  batch.positions = batch.slots = any.data();
  Bytes q = random_tensor(c.act, tokens * heads * dqk, rng);
  /* q as [tokens, heads, dim], out as [heads, tokens, dim]: strides are strides */
  const greta_tensor q_tensor{q.data(), c.act, static_cast<int64_t>(heads * dqk), c.dqk};
  for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
    Bytes out(tokens * heads * dv * size_of(c.act), 0xab);
    std::vector<float> lse(tokens * heads, 7.0f);
    const greta_tensor out_tensor{out.data(), c.act, c.dv, static_cast<int64_t>(tokens * dv)};
    const greta_tensor lse_tensor{lse.data(), GRETA_F32, static_cast<int64_t>(heads), 1};
    const greta_status status =
        greta_attend(session, layer, phase, &batch, &q_tensor, nullptr, nullptr, &out_tensor, &lse_tensor);
    CHECK(status == GRETA_OK, "%s", greta_last_error());
    for (int32_t i = 0; i < n_seqs; ++i) {
      Bytes seq_k(max_len * k_row * size_of(c.kv)), seq_v(max_len * v_row * size_of(c.kv));
      greta_kv_read(session, layer, seq_ids[i], 0, max_len, seq_k.data(), seq_v.data());
      for (int32_t query = 0; query < c.q_len[i]; ++query) {
        const auto token = static_cast<size_t>(cu_q[static_cast<size_t>(i)] + query);
        for (int32_t head = 0; head < c.heads; ++head) {
          const auto h = static_cast<size_t>(head);
          compare_row(c, &q[(token * heads + h) * dqk * size_of(c.act)], seq_k, seq_v, head / (c.heads / c.kv_heads),
                      c.kv_start[i], c.kv_len[i] - c.q_len[i] + query + 1,
                      &out[(h * tokens + token) * dv * size_of(c.act)], lse[token * heads + h], c.schedule[phase]);
        }
      }
    }
  }
  greta_close(session);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 60;
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
    setenv("GRETA_CPU_ISA", isa->name, 1);
    std::mt19937 rng(1);
    const auto pick = [&](std::initializer_list<int32_t> values) {
      return values.begin()[std::uniform_int_distribution<size_t>(0, values.size() - 1)(rng)];
    };
    worst_share = 0.0;
    for (int round = 0; round < rounds; ++round) {
      Case c{};
      c.act = pick({GRETA_F32, GRETA_BF16, GRETA_F16});
      c.kv = pick({GRETA_F32, GRETA_BF16, GRETA_F16});
      c.kv_heads = pick({1, 2, 3});
      c.heads = c.kv_heads * pick({1, 2, 3, 5});
      c.dqk = pick({16, 64, 24, 33, 1});
      c.dv = pick({16, 64, 40, 7});
      c.page_size = pick({0, 1, 5, 16, 200});
      for (greta_schedule& schedule : c.schedule) {
        schedule.tile = pick({1, 7, 16, 31, 64, 1000});
        schedule.splits = pick({1, 2, 3, 9});
      }
      for (int32_t i = 0; i < 3; ++i) {
        const int32_t tile = c.schedule[1].tile % 97;
        c.kv_len[i] = std::min(150, std::max(1, pick({1, 2, tile - 1, tile, tile + 1, 2 * tile, 2 * tile + 1, 149})));
        c.q_len[i] = std::min(c.kv_len[i], pick({0, 1, 1, 2, 45}));
        c.kv_start[i] = std::min(c.kv_len[i], pick({0, 0, 1, tile, c.kv_len[i] - 1}));
      }
      c.q_len[0] = std::max(1, c.q_len[0]);
      run(c, rng);
    }
    std::printf("attend %s: worst element at %.3f of its bound\n", isa->name, worst_share);
  }
  return check::finish("attend");
}
