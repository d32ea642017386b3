/* Every row of a stage against its reference, an element looked at once. In float64 and in the order of the definition
 * in Python, so that each quotient is the same to the last bit; only the two sums are added up in another order. */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "passes_isa.h"

namespace greta_reference {
namespace GRETA_ISA {
namespace {

constexpr int64_t kPiece = GRETA_REFERENCE_DIM;
constexpr double kNothing = -std::numeric_limits<double>::infinity();

float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct Float32 {
  using Word = float;
  static double wide(float value) { return static_cast<double>(value); }
};

struct BFloat16 {
  using Word = uint16_t;
  static double wide(uint16_t word) { return static_cast<double>(as_float(static_cast<uint32_t>(word) << 16)); }
};

struct Float16 {
  using Word = uint16_t;
  /* Exponent and mantissa where a float32 has them, which is 2^-112 of the value, subnormals too. */
  static double wide(uint16_t word) {
    const uint32_t magnitude = static_cast<uint32_t>(word & 0x7FFF) << 13;
    const uint32_t sign = static_cast<uint32_t>(word & 0x8000) << 16;
    const double value = static_cast<double>(as_float(sign | magnitude)) * 0x1p112;
    return magnitude < 0x0F800000 ? value : std::numeric_limits<double>::quiet_NaN();
  }
};

/* 2^floor(log2 |x|), 0 of a subnormal float64. */
double power_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits &= 0x7FF0000000000000u;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

struct Row {
  double rho = kNothing, rho2 = kNothing, pull = kNothing, moved = 0.0, size = 0.0;
  int64_t index = 0;
  double y = 0.0, v = 0.0, e = 0.0, bound = 0.0;
};

enum class Terms { kDet, kTiers, kPull };

/* `n` elements of a row from `start` on, n <= kPiece. */
template <class Type, Terms terms>
bool piece(const greta_reference_stored& stored, const typename Type::Word* values, const greta_reference_bounded& of,
           int64_t start, int64_t n, Row& row) {
  alignas(64) double ratios[kPiece];
  alignas(64) double errors[kPiece];
  const double *y = of.y, *det = of.det, *root = of.root, *root2 = of.root2;
  const double smallest = stored.smallest_normal, u = stored.u;
  double top = kNothing, top2 = kNothing, pull = kNothing, moved = 0.0, size = 0.0;
  int64_t beyond = 0;
#pragma omp simd reduction(max : top, top2, pull) reduction(+ : moved, size) reduction(| : beyond)
  for (int64_t i = 0; i < n; ++i) {
    const double v = Type::wide(values[i]);
    const double apart = v - y[i];
    const double power = power_of(v);
    const double half = (power > smallest ? power : smallest) * u;
    double e = std::fabs(apart) - half;
    // the preimage is narrower toward zero at a power of two
    const bool narrow = (power == std::fabs(v)) & (power > smallest) & (apart * v > 0.0);
    e += narrow ? 0.5 * half : 0.0;
    const double bound = terms == Terms::kDet ? det[i] : det[i] + root[i];
    const double ratio = e / bound;
    ratios[i] = ratio;
    errors[i] = e;
    beyond |= ratio <= 1.0 ? 0 : 1;  // or not a number
    top = ratio > top ? ratio : top;
    if constexpr (terms != Terms::kDet) {
      const double ratio2 = e / (det[i] + root2[i]);
      beyond |= ratio2 == ratio2 ? 0 : 1;
      top2 = ratio2 > top2 ? ratio2 : top2;
    }
    if constexpr (terms == Terms::kPull) {
      const double pulled = (e - det[i]) / root[i];
      beyond |= pulled == pulled ? 0 : 1;
      pull = pulled > pull ? pulled : pull;
    }
    moved += apart * y[i];
    size += y[i] * y[i];
  }
  if (beyond != 0) return false;
  if (top == std::numeric_limits<double>::lowest()) top = kNothing;  // all are: a reduction need not start from it
  row.rho2 = std::max(row.rho2, top2);
  row.pull = std::max(row.pull, pull);
  row.moved += moved;
  row.size += size;
  if (top > row.rho || start == 0) {
    const int64_t at = std::min<int64_t>(std::find(ratios, ratios + n, top) - ratios, n - 1);
    row.rho = top;
    row.index = start + at;
    row.y = y[at];
    row.v = Type::wide(values[at]);
    row.e = errors[at];
    row.bound = terms == Terms::kDet ? det[at] : det[at] + root[at];
  }
  return true;
}

double at_least_0(double value) {
  return value > 0.0 ? value : 0.0;
}

template <Terms terms>
void put(const Row& row, const greta_reference_rows& rows, int64_t count, int64_t r) {
  double* column = rows.table + r;
  const double rho2 = terms == Terms::kDet ? row.rho : row.rho2;
  column[0] = at_least_0(row.rho);
  column[count] = at_least_0(rho2);
  if constexpr (terms == Terms::kPull) column[2 * count] = at_least_0(row.pull);
  const double rest[] = {row.moved, row.size, row.y, row.v, row.e, row.bound};
  for (int64_t i = 0; i < 6; ++i) column[(4 + i) * count] = rest[i];
  rows.index[r] = row.index;
}

template <class Type, Terms terms>
bool every_row(const greta_reference_stored& stored, const greta_reference_bounded& reference,
               const greta_reference_rows& rows) {
  const auto* values = static_cast<const typename Type::Word*>(stored.data);
  for (int64_t r = 0; r < stored.rows; ++r) {
    Row row;
    for (int64_t start = 0; start < stored.elements; start += kPiece) {
      const int64_t at = r * stored.elements + start, n = std::min(kPiece, stored.elements - start);
      const greta_reference_bounded here = {
          reference.y + at,
          reference.det + at,
          terms == Terms::kDet ? nullptr : reference.root + at,
          terms == Terms::kDet ? nullptr : reference.root2 + at,
      };
      if (!piece<Type, terms>(stored, values + at, here, start, n, row)) return false;
    }
    put<terms>(row, rows, stored.rows, r);
  }
  return true;
}

template <class Type>
bool of_terms(const greta_reference_stored& stored, const greta_reference_bounded& reference,
              const greta_reference_rows& rows) {
  if (reference.root == nullptr) return every_row<Type, Terms::kDet>(stored, reference, rows);
  if (rows.pull == 0) return every_row<Type, Terms::kTiers>(stored, reference, rows);
  return every_row<Type, Terms::kPull>(stored, reference, rows);
}

template <class Type>
void widen(const void* x, int64_t at, int64_t n, double* wide) {
  const auto* values = static_cast<const typename Type::Word*>(x) + at;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) wide[i] = Type::wide(values[i]);
}

/* One head: y and bound of x [dim], by the rows of the tables that start at `table`. */
void turn(const greta_reference_rope& rope, const double* x, int64_t table, double* y, double* bound) {
  alignas(64) double paired[kPiece];
  const int64_t rotary = rope.rotary, half = rotary / 2;
  if (rope.interleaved != 0) {
    for (int64_t i = 0; i < rotary; ++i) paired[i] = x[i ^ 1];
  } else {
    std::copy(x + half, x + rotary, paired);
    std::copy(x, x + half, paired + half);
  }
  const double *own = rope.own + table, *other = rope.other + table;
  const double *own_bound = rope.own_bound + table, *other_bound = rope.other_bound + table;
#pragma omp simd
  for (int64_t i = 0; i < rotary; ++i) {
    y[i] = paired[i] * other[i] + x[i] * own[i];
    bound[i] = std::fabs(x[i]) * own_bound[i] + std::fabs(paired[i]) * other_bound[i] + rope.floor;
  }
  std::copy(x + rotary, x + rope.dim, y + rotary);
  std::fill(bound + rotary, bound + rope.dim, 0.0);
}

template <class Type>
bool rope_rows(const greta_reference_stored& stored, const greta_reference_rope& rope,
               const greta_reference_rows& rows) {
  alignas(64) double x[kPiece], y[kPiece], bound[kPiece];
  const auto* values = static_cast<const typename Type::Word*>(stored.data);
  for (int64_t r = 0; r < stored.rows; ++r) {
    Row row;
    for (int64_t start = 0; start < stored.elements; start += rope.dim) {
      const int64_t at = r * stored.elements + start;
      widen<Type>(rope.x, at, rope.dim, x);
      turn(rope, x, r * rope.rotary, y, bound);
      const greta_reference_bounded head = {y, bound, nullptr, nullptr};
      if (!piece<Type, Terms::kDet>(stored, values + at, head, start, rope.dim, row)) return false;
    }
    put<Terms::kDet>(row, rows, stored.rows, r);
  }
  return true;
}

}  // namespace

bool within(const greta_reference_stored& stored, const greta_reference_bounded& reference,
            const greta_reference_rows& rows) {
  if (stored.type == 0) return of_terms<Float32>(stored, reference, rows);
  if (stored.type == 1) return of_terms<BFloat16>(stored, reference, rows);
  return of_terms<Float16>(stored, reference, rows);
}

bool rope_within(const greta_reference_stored& stored, const greta_reference_rope& rope,
                 const greta_reference_rows& rows) {
  if (stored.type == 0) return rope_rows<Float32>(stored, rope, rows);
  if (stored.type == 1) return rope_rows<BFloat16>(stored, rope, rows);
  return rope_rows<Float16>(stored, rope, rows);
}

}  // namespace GRETA_ISA
}  // namespace greta_reference
