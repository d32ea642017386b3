/* A softmax before and after its exponentials, a row of scores read once on either side. */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "passes_isa.h"

namespace greta_reference {
namespace GRETA_ISA {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Range {
  double least = kInfinity, largest = -kInfinity, sum = 0.0;
};

/* NaN where one of them is. */
Range range_of(const double* values, int64_t begin, int64_t end) {
  double least = kInfinity, largest = -kInfinity, sum = 0.0;
  int64_t odd = 0;
#pragma omp simd reduction(min : least) reduction(max : largest) reduction(+ : sum) reduction(| : odd)
  for (int64_t j = begin; j < end; ++j) {
    least = values[j] < least ? values[j] : least;
    largest = values[j] > largest ? values[j] : largest;
    sum += values[j];
    odd |= values[j] == values[j] ? 0 : 1;
  }
  if (odd != 0) return {kNan, kNan, kNan};
  // a reduction need not start from an infinity
  if (least == std::numeric_limits<double>::max()) least = kInfinity;
  if (largest == std::numeric_limits<double>::lowest()) largest = -kInfinity;
  return {least, largest, sum};
}

void put(const greta_reference_scores& of, int64_t r, int first, const Range& range) {
  const int64_t all = of.heads * of.rows;
  of.seen[first * all + r] = range.least;
  of.seen[(first + 1) * all + r] = range.largest;
  of.seen[(first + 2) * all + r] = range.sum;
}

}  // namespace

void shift(const greta_reference_scores& of) {
  for (int64_t r = 0; r < of.heads * of.rows; ++r) {
    const int64_t query = r % of.rows / of.group, begin = of.begin[query], end = of.end[query];
    double *s = of.s + r * of.keys, *apart = of.weight + r * of.keys;
    const Range range = range_of(s, begin, end);
    put(of, r, 0, range);
    double m = range.largest;
    if (of.sink != nullptr && !(m >= of.sink[r]) && m == m) m = of.sink[r];
    of.m[r] = m;
    if (m == -kInfinity) m = 0.0;
    std::fill(s, s + begin, m);
    std::fill(s + end, s + of.keys, m);
#pragma omp simd
    for (int64_t j = 0; j < of.keys; ++j) apart[j] = s[j] - m;
  }
}

void normalise(const greta_reference_scores& of) {
  for (int64_t r = 0; r < of.heads * of.rows; ++r) {
    const int64_t query = r % of.rows / of.group, begin = of.begin[query], end = of.end[query];
    const bool empty = of.m[r] == -kInfinity;
    const double m = empty ? 0.0 : of.m[r];
    const double *s = of.s + r * of.keys, *det = of.det + r * of.keys;
    double *weight = of.weight + r * of.keys, *eps = of.eps + r * of.keys;
    std::fill(weight, weight + begin, 0.0);
    std::fill(weight + end, weight + of.keys, 0.0);
    double l = 0.0;
#pragma omp simd reduction(+ : l)
    for (int64_t j = begin; j < end; ++j) l += weight[j];
    if (of.sink != nullptr) l += std::exp(of.sink[r] - m);
    if (empty) l = 1.0;
    of.l[r] = l;
    const double part = 1.0 / l;
#pragma omp simd
    for (int64_t j = 0; j < of.keys; ++j) {
      weight[j] *= part;
      eps[j] = std::fabs(s[j] - m) * of.distance + det[j] + of.exp_rel;
    }
    put(of, r, 3, range_of(weight, begin, end));
  }
}

}  // namespace GRETA_ISA
}  // namespace greta_reference
