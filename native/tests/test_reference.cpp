/* The passes of the checks, of every instruction set that this processor has, against plain loops: quotients to the
 * last bit, sums within 1e-12. Every array is as long as it must be and no longer, so that the address sanitizer sees a
 * read beyond it. What they must do in Python's terms, tests/checks/test_compiled.py shows. */
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "passes.h"

namespace {

using greta_reference::Passes;
using Doubles = std::vector<double>;

std::mt19937_64 random_bits(7);

size_t as_size(int64_t n) {
  return static_cast<size_t>(n);
}

Doubles drawn(int64_t n) {
  std::normal_distribution<double> normal;
  Doubles values(as_size(n));
  for (double& x : values) x = normal(random_bits);
  return values;
}

bool close(double a, double b, double size) {
  return std::fabs(a - b) <= 1e-12 * size;
}

/* Half the distance of float32 values at v, halved once more toward zero at a power of two. */
double half_ulp(double v, double y) {
  int exponent = 0;
  const double mantissa = std::frexp(std::fabs(v), &exponent);
  const double half = std::ldexp(1.0, std::max(exponent - 1, -126) - 24);
  return mantissa == 0.5 && std::fabs(y) < std::fabs(v) ? 0.5 * half : half;
}

void judge(const Passes& passes, int64_t rows, int64_t elements, bool tiers, bool beyond) {
  const int64_t n = rows * elements;
  Doubles y = drawn(n), det(as_size(n)), root(as_size(n)), root2(as_size(n)), table(as_size(10 * rows), -1.0);
  std::vector<float> stored(as_size(n));
  for (size_t i = 0; i < y.size(); ++i) {
    if (i % 9 == 0) y[i] = 1.0 - 1e-9;
    stored[i] = static_cast<float>(y[i] * (1.0 + 1e-7));
    det[i] = std::fabs(y[i]) * 1e-6;
    root[i] = 2.0 * det[i];
    root2[i] = 3.0 * det[i];
  }
  if (beyond) stored.back() *= 1.0001F;
  std::vector<int64_t> index(as_size(rows), -1);
  const greta_reference_stored of = {stored.data(), 0, std::ldexp(1.0, -126), std::ldexp(1.0, -24), rows, elements};
  const greta_reference_bounded reference = {y.data(), det.data(), tiers ? root.data() : nullptr,
                                             tiers ? root2.data() : nullptr};
  const bool within = passes.within(of, reference, {table.data(), index.data(), tiers ? 1 : 0});
  CHECK(within == !beyond, "%lld rows of %lld", static_cast<long long>(rows), static_cast<long long>(elements));
  if (!within) return;
  for (size_t r = 0; r < as_size(rows); ++r) {
    double top = -INFINITY, moved = 0.0, size = 0.0;
    int64_t at = 0;
    for (size_t i = r * as_size(elements); i < (r + 1) * as_size(elements); ++i) {
      const double v = static_cast<double>(stored[i]), e = std::fabs(v - y[i]) - half_ulp(v, y[i]);
      const double ratio = e / (tiers ? det[i] + root[i] : det[i]);
      if (ratio > top) top = ratio, at = static_cast<int64_t>(i) - static_cast<int64_t>(r) * elements;
      moved += (v - y[i]) * y[i];
      size += y[i] * y[i];
    }
    CHECK(table[r] == std::fmax(top, 0.0) && index[r] == at, "row %zu: %g, %g", r, table[r], top);
    CHECK(close(table[4 * as_size(rows) + r], moved, size) && close(table[5 * as_size(rows) + r], size, size), "%zu",
          r);
  }
}

void turn(const Passes& passes, int64_t rows, int64_t heads, int64_t dim, int64_t rotary, int32_t interleaved) {
  const int64_t n = rows * heads * dim;
  const Doubles own = drawn(rows * rotary), other = drawn(rows * rotary), wide(as_size(rows * rotary), 1e-6);
  std::vector<float> x(as_size(n)), stored(as_size(n));
  for (float& value : x) value = static_cast<float>(drawn(1)[0]);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = i / (heads * dim), j = i % dim, half = rotary / 2;
    const int64_t pair = interleaved != 0 ? j ^ 1 : j < half ? j + half : j - half;
    const size_t at = as_size(row * rotary + j);
    stored[as_size(i)] = j >= rotary ? x[as_size(i)]
                                     : static_cast<float>(static_cast<double>(x[as_size(i)]) * own[at] +
                                                          static_cast<double>(x[as_size(i - j + pair)]) * other[at]);
  }
  Doubles table(as_size(10 * rows));
  std::vector<int64_t> index(as_size(rows));
  const greta_reference_stored of = {stored.data(), 0, std::ldexp(1.0, -126), std::ldexp(1.0, -24), rows, heads * dim};
  const greta_reference_rope rope = {x.data(),     interleaved, dim,         rotary, own.data(),
                                     other.data(), wide.data(), wide.data(), 0.0};
  CHECK(passes.rope_within(of, rope, {table.data(), index.data(), 0}), "dim %lld", static_cast<long long>(dim));
  stored[as_size(n - 1)] += 0.01F;
  CHECK(!passes.rope_within(of, rope, {table.data(), index.data(), 0}), "dim %lld", static_cast<long long>(dim));
}

void attend(const Passes& passes, int64_t heads, int64_t rows, int64_t keys, int64_t dim) {
  const int64_t n = heads * rows * keys, all = heads * rows;
  Doubles s = drawn(n), weight(as_size(n)), eps(as_size(n)), m(as_size(all)), l(as_size(all)), seen(as_size(6 * all));
  const Doubles given = s, det(as_size(n), 1e-7), sink = drawn(all), v = drawn(heads * keys * dim), a(as_size(n), 2.0);
  const Doubles o = drawn(all * dim), least(as_size(all), 1e-3);
  std::vector<int64_t> begin(as_size(rows)), end(as_size(rows));
  for (size_t r = 0; r < begin.size(); ++r) {
    begin[r] = static_cast<int64_t>(random_bits() % as_size(keys));
    end[r] = begin[r] + static_cast<int64_t>(random_bits() % as_size(keys - begin[r] + 1));
  }
  const greta_reference_scores scores = {
      heads,    rows,          keys,     1,          begin.data(), end.data(), sink.data(), s.data(),
      m.data(), weight.data(), l.data(), eps.data(), det.data(),   1e-7,       1e-7,        seen.data()};
  passes.shift(scores);
  for (double& x : weight) x = std::exp(x);
  passes.normalise(scores);
  Doubles total(as_size(3 * all)), spread(as_size(3 * all * dim)), envelope(as_size(n)), scratch(as_size(6 * keys));
  passes.weigh({weight.data(), s.data(), a.data(), eps.data(), m.data(), least.data(), v.data(), o.data(), heads, rows,
                keys, dim, 1e-7, 2.0, 4.0, 1e-3},
               {total.data(), spread.data(), envelope.data(), scratch.data()});
  for (int64_t r = 0; r < all; ++r) {
    const size_t query = as_size(r % rows);
    double top = sink[as_size(r)], sum = 0.0;
    for (int64_t j = begin[query]; j < end[query]; ++j) top = std::fmax(top, given[as_size(r * keys + j)]);
    for (int64_t j = begin[query]; j < end[query]; ++j) sum += std::exp(given[as_size(r * keys + j)] - top);
    sum += std::exp(sink[as_size(r)] - top);
    CHECK(m[as_size(r)] == top && close(l[as_size(r)], sum, sum), "row %lld", static_cast<long long>(r));
    for (int64_t i = 0; i < dim; ++i) {
      double of_a = 0.0, of_det = 0.0;
      for (int64_t j = begin[query]; j < end[query]; ++j) {
        const double p = std::exp(given[as_size(r * keys + j)] - top) / sum, score = given[as_size(r * keys + j)];
        const double away = std::fabs(v[as_size((r / rows * keys + j) * dim + i)] - o[as_size(r * dim + i)]);
        const double rescale = 2.0 * std::fmax(std::fabs(score), std::fabs(top)) + 4.0;
        of_a += p * 2.0 * away;
        of_det += p * (1e-7 * rescale + std::fabs(score - top) * 1e-7 + 1e-7 + 1e-7) * away;
      }
      CHECK(close(spread[as_size(r * 3 * dim + i)], of_a, of_a + 1.0), "row %lld", static_cast<long long>(r));
      CHECK(close(spread[as_size((r * 3 + 2) * dim + i)], of_det, of_det), "row %lld", static_cast<long long>(r));
    }
  }
}

void widen(const Passes& passes, int64_t n) {
  std::vector<float> values(as_size(n)), magnitude(as_size(n));
  Doubles wide(as_size(n));
  for (float& x : values) x = static_cast<float>(drawn(1)[0]);
  passes.widen(values.data(), n, wide.data(), magnitude.data());
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK(wide[i] == static_cast<double>(values[i]) && magnitude[i] == std::fabs(values[i]), "%zu", i);
  }
}

}  // namespace

int main() {
  for (const Passes* const* isa = greta_reference::usable(); *isa != nullptr; ++isa) {
    for (int64_t elements : {1, 2, 7, 8, 31, 64, 1024, 1025, 3000}) {
      for (bool tiers : {false, true}) {
        for (bool beyond : {false, true}) judge(**isa, 3, elements, tiers, beyond);
      }
      widen(**isa, elements);
    }
    for (int64_t dim : {2, 6, 64, 80, 1024}) {
      for (int32_t interleaved : {0, 1}) {
        turn(**isa, 3, 2, dim, dim, interleaved);
        turn(**isa, 1, 1, dim, dim / 4 * 2, interleaved);
      }
    }
    for (int64_t keys : {1, 5, 64, 129}) {
      for (int64_t dim : {1, 8, 33, 64}) attend(**isa, 2, 3, keys, dim);
    }
  }
  return check::finish("reference");
}
