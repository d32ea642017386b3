/* The pieces that the kernels are made of, for one instruction set: each against the plain loop that it stands for, to
 * the bit. Compiled once per instruction set; does nothing where the processor lacks it. */
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "isa.h"
#include "walk.h"

#define GRETA_TEXT_(x) #x
#define GRETA_TEXT(x) GRETA_TEXT_(x)

namespace {

using greta::lanes;
using Floats = std::vector<float>;

std::mt19937& rng() {
  static std::mt19937 engine(3); /* not before main has seen what the processor has */
  return engine;
}

Floats random_floats(size_t n) {
  std::normal_distribution<float> normal;
  Floats x(n);
  for (float& value : x) value = normal(rng());
  return x;
}

bool same(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

/* What vfma is here: FMA where the instruction set has it. */
float chained(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

void transposed() {
  const Floats from = random_floats(lanes * lanes);
  greta::Vec x[lanes];
  for (int j = 0; j < lanes; ++j) x[j] = greta::vload(&from[static_cast<size_t>(j * lanes)]);
  greta::transpose(x);
  for (int i = 0; i < lanes; ++i) {
    float row[lanes];
    greta::vstore(row, x[i]);
    for (int j = 0; j < lanes; ++j) CHECK(same(row[j], from[static_cast<size_t>(j * lanes + i)]), "row %d, %d", i, j);
  }
}

void folded() {
  Floats x = random_floats(lanes);
  const float sum = greta::sum_lanes(greta::vload(x.data())), most = greta::max_lanes(greta::vload(x.data()));
  CHECK(same(most, *std::max_element(x.begin(), x.end())), "max %g", static_cast<double>(most));
  for (size_t width = lanes / 2; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) x[i] += x[i + width];
  }
  CHECK(same(sum, x[0]), "sum %g, expected %g", static_cast<double>(sum), static_cast<double>(x[0]));
}

/* Every storage type, at every length up to several blocks and from every start of one: columns, and neighbours. */
template <int32_t dtype>
void loaded() {
  constexpr int32_t dim = 72;
  constexpr auto size = static_cast<size_t>(greta::size_of<dtype>);
  std::vector<char> stored(lanes * dim * size);
  for (char& byte : stored) byte = static_cast<char>(rng()());
  const char* rows[lanes];
  Floats expected(lanes * dim), out(dim * lanes);
  for (int j = 0; j < lanes; ++j) {
    rows[j] = &stored[static_cast<size_t>(j * dim) * size];
    greta::row_to_f32(dtype, rows[j], dim, &expected[static_cast<size_t>(j * dim)]);
  }
  for (int32_t begin = 0; begin < dim; begin += 8) {
    for (int32_t end = begin + 1; end <= dim; ++end) {
      greta::load_columns<dtype>(rows, begin, end, rows[0], out.data());
      for (int32_t i = begin; i < end; ++i) {
        for (int32_t j = 0; j < lanes; ++j) {
          const float want = expected[static_cast<size_t>(j * dim + i)];
          const float got = out[static_cast<size_t>((i - begin) * lanes + j)];
          CHECK(same(got, want) || (got != got && want != want), "type %d: %g, expected %g", dtype,
                static_cast<double>(got), static_cast<double>(want));
        }
      }
    }
  }
  greta::Vec x[4];
  greta::load_vectors<dtype>(rows[1], x);
  greta::order_vectors<dtype>(x);
  for (int c = 0; c < 4; ++c) greta::vstore(&out[static_cast<size_t>(c * lanes)], x[c]);
  for (size_t i = 0; i < 4 * lanes; ++i) {
    CHECK(same(out[i], expected[dim + i]) || out[i] != out[i], "type %d, neighbour %zu", dtype, i);
  }
}

/* A score is one chain over the head dimension, whatever it is cut into and however many rows go together. */
template <int R, int C>
void multiplied() {
  constexpr int32_t dqk = 40, cut = 24, width = C * lanes;
  const Floats q = random_floats(R * dqk), k = random_floats(width * dqk);
  Floats s(R * width), kt(dqk * width);
  for (int32_t begin : {0, cut}) {
    const int32_t depth = (begin == 0 ? cut : dqk) - begin;
    for (int32_t j = 0; j < width; ++j) {
      for (int32_t i = 0; i < depth; ++i) {
        kt[static_cast<size_t>((j / lanes * depth + i) * lanes + j % lanes)] =
            k[static_cast<size_t>(j * dqk + begin + i)];
      }
    }
    greta::dot_products<R, C>(q.data() + begin, dqk, depth, kt.data(), s.data(), width, begin > 0);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t j = 0; j < width; ++j) {
      float sum = 0.0f;
      for (size_t i = 0; i < dqk; ++i) sum = chained(q[r * dqk + i], k[j * dqk + i], sum);
      CHECK(same(s[r * width + j], sum), "%d x %d: %.9g, expected %.9g", R, C, static_cast<double>(s[r * width + j]),
            static_cast<double>(sum));
    }
  }
}

/* One chunk of P.V: a chain of its own, added at the end. */
template <int R, int C>
void added() {
  constexpr int32_t keys = 21, begin = 3, stride = C * lanes, row = lanes + stride;
  const Floats p = random_floats(R * keys), v = random_floats(keys * stride), before = random_floats(R * row);
  Floats outputs = before;
  float* partial[R];
  for (int r = 0; r < R; ++r) partial[r] = &outputs[static_cast<size_t>(r * row)];
  greta::add_weighted<R, C>(p.data(), keys, greta::Loaded{v.data(), stride}, begin, keys, 0, partial);
  for (size_t r = 0; r < R; ++r) {
    for (size_t i = 0; i < stride; ++i) {
      float sum = 0.0f;
      for (size_t j = begin; j < keys; ++j) sum = chained(p[r * keys + j], v[j * stride + i], sum);
      const float want = before[r * row + lanes + i] + sum, got = outputs[r * row + lanes + i];
      CHECK(same(got, want), "%d x %d: %.9g, expected %.9g", R, C, static_cast<double>(got), static_cast<double>(want));
    }
  }
}

bool usable() {
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
    if (std::strcmp(isa->name, GRETA_TEXT(GRETA_ISA)) == 0) return true;
  }
  return false;
}

/* Never a part of main: a sanitizer clears its frame with the very instructions that main is to ask for first. */
[[gnu::noinline]] int run() {
  transposed();
  folded();
  loaded<GRETA_F32>();
  loaded<GRETA_BF16>();
  loaded<GRETA_F16>();
  loaded<GRETA_FP8_E4M3FN>();
  loaded<GRETA_FP8_E4M3FNUZ>();
  multiplied<1, 1>();
  multiplied<3, 2>();
  multiplied<greta::micro_rows, greta::cols_for(greta::micro_rows)>();
  multiplied<1, greta::most_cols>();
  added<1, 1>();
  added<3, 2>();
  added<greta::micro_rows, greta::cols_for(greta::micro_rows)>();
  added<1, greta::most_cols>();
  return check::finish("micro " GRETA_TEXT(GRETA_ISA));
}

}  // namespace

int main() {
  if (!usable()) {
    std::printf("micro " GRETA_TEXT(GRETA_ISA) ": not on this processor\n");
    return 0;
  }
  return run();
}
