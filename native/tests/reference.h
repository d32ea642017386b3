/* One attention row in double, with the bounds of docs/concepts/numerics.md; first tier, c = 5. */
#pragma once

#include "attention_case.h"

constexpr double u = 0x1p-24, c_sqrt = 5.0, tanh_rel = 0x1p-22;

/* The visible keys of one query of one head: scores, what each may be off by, and the values. */
struct Row {
  int32_t lo, hi;
  std::vector<double> s, ds, v; /* [n], [n], [n, dv] */
  double sink;                  /* -inf: none */

  size_t n() const { return s.size(); }
  double highest() const { return n() == 0 ? sink : std::max(sink, *std::max_element(s.begin(), s.end())); }
};

inline Row row_of(const Case& c, int32_t seq, int32_t query, int32_t head, const unsigned char* q, const Bytes& k,
                  const Bytes& v) {
  const int32_t kv_head = head / c.group();
  const auto of = [](const std::vector<float>& values, int32_t i, double missing) {
    return values.empty() ? missing : static_cast<double>(values[static_cast<size_t>(i)]);
  };
  const auto at = [&](const Bytes& rows, int32_t key, int32_t dim, int32_t i) {
    const auto index = static_cast<size_t>((key * c.kv_heads + kv_head) * dim + i);
    return decode(c.kv, &rows[index * size_of(c.kv)]);
  };
  const double scale = static_cast<double>(static_cast<float>(1.0 / std::sqrt(c.dqk))),
               cap = static_cast<double>(c.softcap);
  const double k_scale = of(c.k_scale, kv_head, 1.0), v_scale = of(c.v_scale, kv_head, 1.0);
  Row row{c.lo(seq, query), c.hi(seq, query), {}, {}, {}, of(c.sinks, head, -static_cast<double>(INFINITY))};
  for (int32_t key = row.lo; key < row.hi; ++key) {
    double dot = 0.0, magnitude = 0.0;
    for (int32_t i = 0; i < c.dqk; ++i) {
      const double term = decode(c.act, q + static_cast<size_t>(i) * size_of(c.act)) * at(k, key, c.dqk, i) * k_scale;
      dot += term;
      magnitude += std::fabs(term);
    }
    double s = scale * dot, ds = u * (c_sqrt * std::sqrt(c.dqk) * scale * magnitude + 3.0 * std::fabs(s));
    if (cap != 0.0) {
      s = cap * std::tanh(s / cap);
      ds = (1.0 - (s / cap) * (s / cap)) * ds + (4.0 * u + tanh_rel) * std::fabs(s);
    }
    if (!c.alibi.empty()) {
      const double bias = of(c.alibi, head, 0.0) * (key - (row.hi - 1));
      s += bias;
      ds += u * (std::fabs(bias) + std::fabs(s));
    }
    row.s.push_back(s);
    row.ds.push_back(ds);
    for (int32_t i = 0; i < c.dv; ++i) row.v.push_back(at(v, key, c.dv, i) * v_scale);
  }
  return row;
}
