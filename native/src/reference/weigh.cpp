/* Attention's bound after the softmax: the terms of each key and their sums, a row of scores read once. */
#include <cmath>
#include <cstdint>
#include <cstring>

#include "passes_isa.h"

namespace greta_reference {
namespace GRETA_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kTerms = 3;

typedef double Doubles __attribute__((vector_size(kBytes)));
typedef int64_t Words __attribute__((vector_size(kBytes)));

Doubles magnitude(Doubles x) {
  return (Doubles)((Words)x & INT64_MAX);
}

double magnitude(double x) {
  return std::fabs(x);
}

/* As NumPy's: what is not a number stays so. */
double maximum(double a, double b) {
  return ((a < b) | (b != b)) ? b : a;
}

double minimum(double a, double b) {
  return ((a > b) | (b != b)) ? b : a;
}

/* Row `r` of all heads' rows: its terms [3, keys], their sums and its envelope. */
void terms_of(const greta_reference_softmax& of, int64_t r, double* terms, const greta_reference_weighed& out) {
  const int64_t keys = of.keys;
  const double *p = of.p + r * keys, *s = of.s + r * keys, *a = of.a + r * keys, *det = of.det + r * keys;
  double *of_a = terms, *of_m = terms + keys, *of_det = terms + 2 * keys, *envelope = out.envelope + r * keys;
  const double m = std::fabs(of.m[r]), least = of.least[r];
  double total_a = 0.0, total_m = 0.0, total_det = 0.0;
#pragma omp simd reduction(+ : total_a, total_m, total_det)
  for (int64_t j = 0; j < keys; ++j) {
    const double rescale = maximum(std::fabs(s[j]), m) * of.slope + of.constant;
    total_a += of_a[j] = p[j] * a[j];
    total_m += of_m[j] = p[j] * rescale;
    total_det += of_det[j] = p[j] * (rescale * of.u + det[j]);
    envelope[j] = maximum(of.relative * p[j], minimum(p[j], least));
  }
  double* total = out.total + r * kTerms;
  total[0] = total_a;
  total[1] = total_m;
  total[2] = total_det;
}

/* sum_j terms_j |v_j - o| of `Rows` rows, elements `from` on of a head, `Vectors` of them. `terms`: [Rows, 3, keys]. */
template <int Rows, int Vectors, class Vector>
void spread_of(const greta_reference_softmax& of, const double* v, const double* o, const double* terms, double* out) {
  constexpr int64_t kWidth = sizeof(Vector) / sizeof(double);
  Vector sums[Rows][kTerms][Vectors] = {};
  Vector own[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    std::memcpy(own[r], o + r * of.dim, sizeof own[r]);
  }
  for (int64_t j = 0; j < of.keys; ++j) {
    Vector value[Vectors];
    std::memcpy(value, v + j * of.dim, sizeof value);
    for (int r = 0; r < Rows; ++r) {
      const double* t = terms + r * kTerms * of.keys + j;
      for (int i = 0; i < Vectors; ++i) {
        const Vector away = magnitude(value[i] - own[r][i]);
        for (int k = 0; k < kTerms; ++k) sums[r][k][i] += t[k * of.keys] * away;
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int k = 0; k < kTerms; ++k) {
      std::memcpy(out + (r * kTerms + k) * of.dim, sums[r][k], Vectors * kWidth * sizeof(double));
    }
  }
}

/* `Rows` rows from row `r` on of all heads', which are of head `b`. */
template <int Rows>
void rows_of(const greta_reference_softmax& of, int64_t b, int64_t r, const greta_reference_weighed& out) {
  constexpr int64_t kWidth = kBytes / sizeof(double);
  for (int i = 0; i < Rows; ++i) terms_of(of, r + i, out.scratch + i * kTerms * of.keys, out);
  const double *v = of.v + b * of.keys * of.dim, *o = of.o + r * of.dim, *terms = out.scratch;
  double* spread = out.spread + r * kTerms * of.dim;
  int64_t i = 0;
  for (; i + 2 * kWidth <= of.dim; i += 2 * kWidth) spread_of<Rows, 2, Doubles>(of, v + i, o + i, terms, spread + i);
  for (; i < of.dim; ++i) spread_of<Rows, 1, double>(of, v + i, o + i, terms, spread + i);
}

}  // namespace

void weigh(const greta_reference_softmax& softmax, const greta_reference_weighed& weighed) {
  for (int64_t b = 0; b < softmax.heads; ++b) {
    int64_t r = b * softmax.rows;
    const int64_t end = r + softmax.rows;
    for (; r + 2 <= end; r += 2) rows_of<2>(softmax, b, r, weighed);
    if (r < end) rows_of<1>(softmax, b, r, weighed);
  }
}

}  // namespace GRETA_ISA
}  // namespace greta_reference
