/* One attention row in double, with the bounds of docs/concepts/numerics.md; first tier, c = 5. */
#pragma once

#include "attention_case.h"

constexpr double u = 0x1p-24, c_sqrt = 5.0, tanh_rel = 0x1p-22, bound_floor = 0x1p-140;

/* All values of a type of up to 16 bits. */
inline const double* values_of(int32_t dtype) {
  static std::vector<double> tables[5];
  std::vector<double>& table = tables[dtype];
  if (table.empty()) {
    for (uint32_t bits = 0; bits < (size_of(dtype) == 1 ? 256u : 65536u); ++bits) {
      unsigned char bytes[4];
      std::memcpy(bytes, &bits, 4);
      table.push_back(decode(dtype, bytes));
    }
  }
  return table.data();
}

inline std::vector<double> decoded(int32_t dtype, const unsigned char* data, size_t n) {
  std::vector<double> x(n);
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, data + i * size_of(dtype), size_of(dtype));
    x[i] = dtype == GRETA_F32 ? decode(dtype, data + i * 4) : values_of(dtype)[bits];
  }
  return x;
}

/* What one sequence's cache holds, scaled: [kv_heads][rows][dim]. */
struct Contents {
  int32_t rows;
  std::vector<double> k, v;

  Contents(const Case& c, const Bytes& k_bytes, const Bytes& v_bytes)
      : rows(static_cast<int32_t>(k_bytes.size() / (static_cast<size_t>(c.kv_heads * c.dqk) * size_of(c.kv)))),
        k(by_head(c, k_bytes, c.dqk, c.k_scale)),
        v(by_head(c, v_bytes, c.dv, c.v_scale)) {}

 private:
  std::vector<double> by_head(const Case& c, const Bytes& bytes, int32_t dim, const std::vector<float>& scales) const {
    const auto heads = static_cast<size_t>(c.kv_heads), d = static_cast<size_t>(dim), n = static_cast<size_t>(rows);
    const std::vector<double> x = decoded(c.kv, bytes.data(), n * heads * d);
    std::vector<double> result(x.size());
    for (size_t row = 0; row < n; ++row) {
      for (size_t head = 0; head < heads; ++head) {
        const double scale = scales.empty() ? 1.0 : static_cast<double>(scales[head]);
        for (size_t i = 0; i < d; ++i) result[(head * n + row) * d + i] = x[(row * heads + head) * d + i] * scale;
      }
    }
    return result;
  }
};

/* The visible keys of one query of one head: scores, what each may be off by, and the values. */
struct Row {
  int32_t lo, hi;
  std::vector<double> s, ds; /* [n] */
  const double* v;           /* [n][dv] */
  double sink;               /* -inf: none */

  size_t n() const { return s.size(); }
  double highest() const { return n() == 0 ? sink : std::max(sink, *std::max_element(s.begin(), s.end())); }
};

/* The row of `head` whose query sees the keys before `end`. */
inline Row row_of(const Case& c, int32_t seq, int32_t end, int32_t head, const unsigned char* query,
                  const Contents& cache) {
  const auto kv_head = static_cast<size_t>(head / c.group()), d = static_cast<size_t>(c.dqk);
  const auto of = [&](const std::vector<float>& values, double missing) {
    return values.empty() ? missing : static_cast<double>(values[static_cast<size_t>(head)]);
  };
  const double scale = static_cast<double>(static_cast<float>(1.0 / std::sqrt(c.dqk))),
               cap = static_cast<double>(c.softcap), slope = of(c.alibi, 0.0);
  const std::vector<double> q = decoded(c.act, query, d);
  const int32_t lo = c.first_key(seq, end);
  const size_t first = kv_head * static_cast<size_t>(cache.rows) + static_cast<size_t>(lo);
  Row row{lo, end, {}, {}, &cache.v[first * static_cast<size_t>(c.dv)], of(c.sinks, -static_cast<double>(INFINITY))};
  for (int32_t key = lo; key < end; ++key) {
    const double* k = &cache.k[(first + static_cast<size_t>(key - lo)) * d];
    double dot = 0.0, magnitude = 0.0;
    for (size_t i = 0; i < d; ++i) {
      const double term = q[i] * k[i];
      dot += term;
      magnitude += std::fabs(term);
    }
    double s = scale * dot, ds = u * (c_sqrt * std::sqrt(c.dqk) * scale * magnitude + 3.0 * std::fabs(s));
    if (cap != 0.0) {
      s = cap * std::tanh(s / cap);
      ds = (1.0 - (s / cap) * (s / cap)) * ds + (4.0 * u + tanh_rel) * std::fabs(s);
    }
    if (!c.alibi.empty()) {
      const double bias = slope * (key - (end - 1));
      s += bias;
      ds += u * (std::fabs(bias) + std::fabs(s));
    }
    row.s.push_back(s);
    row.ds.push_back(ds);
  }
  return row;
}

/* What must come out of a row, and how far off it may be. */
struct Expected {
  double lse, lse_bound;
  std::vector<double> out, bound; /* [dv], attention in the ENV form */
};

inline Expected expected_of(const Case& c, const Row& row, const greta_schedule& schedule) {
  const auto dv = static_cast<size_t>(c.dv);
  const double m = row.highest();
  Expected e{m, 0.0, std::vector<double>(dv), std::vector<double>(dv)};
  if (m == -static_cast<double>(INFINITY)) return e; /* an empty row: exactly -inf and 0 */
  const auto n = static_cast<double>(row.n() + 1);   /* the sink is a key */
  const double tiles = std::ceil(n / schedule.tile) + schedule.splits;
  const auto eps_of = [&](double s, double ds) {
    const double rescale = 2.0 * std::max(std::fabs(m), std::fabs(s)) + 4.0;
    return ds + u * (2.0 * std::fabs(s - m) + rescale * (1.0 + c_sqrt * std::sqrt(tiles)));
  };
  const double sink_weight = std::exp(row.sink - m);
  double l = sink_weight;
  std::vector<double> p;
  for (double s : row.s) l += p.emplace_back(std::exp(s - m));
  double mean_eps = sink_weight == 0.0 ? 0.0 : sink_weight / l * eps_of(row.sink, 0.0);
  const double sink_spread = mean_eps;

  const double p_scale = schedule.p_scale == 0.0f ? 1.0 : static_cast<double>(schedule.p_scale);
  /* with m = 0 a weight is exp(s), so what is lost below its type's range counts in that measure */
  const double measure = p_scale * l * (schedule.max_update == GRETA_MAX_NONE ? std::exp(m) : 1.0);
  const double u_p = unit(schedule.p_dtype), lost = half_subnormal(schedule.p_dtype) / measure;
  std::vector<double> size(dv);
  for (size_t j = 0; j < row.n(); ++j) {
    p[j] /= l;
    mean_eps += p[j] * eps_of(row.s[j], row.ds[j]);
    for (size_t i = 0; i < dv; ++i) {
      e.out[i] += p[j] * row.v[j * dv + i];
      size[i] += p[j] * std::fabs(row.v[j * dv + i]);
    }
  }
  for (size_t i = 0; i < dv; ++i) {
    const double o = std::fabs(e.out[i]);
    e.bound[i] = bound_floor + sink_spread * o + 4.0 * u * o + c_sqrt * std::sqrt(n) * u * (size[i] + o);
  }
  for (size_t j = 0; j < row.n(); ++j) {
    const double eps = p[j] * eps_of(row.s[j], row.ds[j]), envelope = std::max(u_p * p[j], std::min(p[j], lost));
    for (size_t i = 0; i < dv; ++i) {
      const double v = row.v[j * dv + i];
      e.bound[i] += eps * std::fabs(v - e.out[i]) + envelope * std::fabs(v);
    }
  }
  e.lse = m + std::log(l);
  e.lse_bound = mean_eps + c_sqrt * std::sqrt(n) * u + 2.0 * u * std::fabs(e.lse) + 4.0 * u + bound_floor;
  return e;
}

/* How far y lies from the reals that round to `stored`: half a step to each side, a quarter toward zero at a power of
 * two, open-ended at the largest value. */
inline double outside(int32_t dtype, double stored, double y) {
  if (!std::isfinite(stored)) return static_cast<double>(INFINITY);
  const Format f = format_of(dtype);
  const double x = std::fabs(stored), towards = std::copysign(1.0, stored) * y;
  int exponent;
  const double fraction = std::frexp(x, &exponent);
  const int least = 2 - f.bias; /* frexp's exponent of the smallest normal */
  const double half = std::ldexp(0.5, std::max(exponent, least) - f.precision);
  const bool power = x != 0.0 && fraction == 0.5 && exponent > least;
  const double lo = x - (power ? half / 2.0 : half);
  const double hi = x >= f.max ? static_cast<double>(INFINITY) : x + half;
  return std::max({0.0, lo - towards, towards - hi});
}

/* Errors as shares of their bounds: the worst, and how many were judged. */
struct Tally {
  double worst = 0.0;
  long elements = 0, failed = 0;

  bool add(double error, double bound) {
    ++elements;
    const double share = error == 0.0 ? 0.0 : error / bound;
    if (!(share <= 1.0)) ++failed;
    worst = std::max(worst, share);
    return share <= 1.0;
  }
};

/* One row as it was stored, `out` [dv] in the activation type. */
inline void judge(const Case& c, const Expected& e, const unsigned char* out, float lse, Tally& tally) {
  const double stored = static_cast<double>(lse);
  const double lse_error = stored == e.lse ? 0.0 : outside(GRETA_F32, stored, e.lse);
  CHECK(tally.add(lse_error, e.lse_bound), "lse %.9g, true %.9g, bound %g", stored, e.lse, e.lse_bound);
  for (size_t i = 0; i < e.out.size(); ++i) {
    const double value = decode(c.act, out + i * size_of(c.act));
    const double error = value == e.out[i] ? 0.0 : outside(c.act, value, e.out[i]);
    if (!tally.add(error, e.bound[i])) {
      CHECK(false, "out[%zu] %.9g, true %.9g, bound %g", i, value, e.out[i], e.bound[i]);
      return;
    }
  }
  ++check::checks;
}
