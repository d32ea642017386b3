/* The vector exp of every instruction set that this processor has, against double exp, for every float in (-104, 0]:
 * within 2^-23 of the true value where that is normal, within 2^-149 below, exact at the special points; and the vector
 * tanh. With an argument, only every n-th float. */
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "check.h"
#include "isa.h"

namespace {

float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

/* The largest |x| at which exp(x) still rounds to 1 whatever the kernel does is 2^-25; below that one value tells all.
 */
constexpr uint32_t first_bits = 0xb2800000u; /* -2^-26 */
constexpr uint32_t last_bits = 0xc2d00000u;  /* -104 */

void sweep(uint32_t step) {
  constexpr int32_t block = 1 << 16;
  double worst[4] = {};
  std::vector<float> x(block), y(block);
  std::vector<double> exact(block);
  for (uint64_t begin = first_bits; begin < last_bits; begin += static_cast<uint64_t>(block) * step) {
    for (int32_t i = 0; i < block; ++i) {
      const uint64_t bits = begin + static_cast<uint64_t>(i) * step;
      x[static_cast<size_t>(i)] = from_bits(bits < last_bits ? static_cast<uint32_t>(bits) : last_bits);
    }
#pragma omp parallel for
    for (int32_t i = 0; i < block; ++i)
      exact[static_cast<size_t>(i)] = std::exp(static_cast<double>(x[static_cast<size_t>(i)]));
    int number = 0;
    for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa, ++number) {
      isa->kernels->exp(x.data(), y.data(), block);
      double high = worst[number];
      for (size_t i = 0; i < static_cast<size_t>(block); ++i) {
        const double scale = exact[i] > 0x1p-126 ? exact[i] * 0x1p-23 : 0x1p-149;
        const double share = std::fabs(static_cast<double>(y[i]) - exact[i]) / scale;
        high = share > high ? share : high;
      }
      worst[number] = high;
    }
  }
  int number = 0;
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa, ++number) {
    std::printf("exp %s: worst error %.3f of the one that is declared\n", isa->name, worst[number]);
    CHECK(worst[number] <= 1.0, "%s: %g", isa->name, worst[number]);
  }
}

/* tanh for every step-th float of both signs up to 2^4: within 2^-22 of the true value, and odd. */
void sweep_tanh(uint32_t step) {
  constexpr int32_t block = 1 << 12;
  constexpr uint32_t first = 0x00800000u, last = 0x41800000u;
  std::vector<float> x(block), y(block), mirrored(block);
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
    double worst = 0.0;
    for (uint64_t begin = first; begin < last; begin += static_cast<uint64_t>(block) * step) {
      for (int32_t i = 0; i < block; ++i) {
        x[static_cast<size_t>(i)] = from_bits(static_cast<uint32_t>(
            begin + static_cast<uint64_t>(i) * step < last ? begin + static_cast<uint64_t>(i) * step : last));
      }
      isa->kernels->tanh(x.data(), y.data(), block);
      for (float& value : x) value = -value;
      isa->kernels->tanh(x.data(), mirrored.data(), block);
      for (size_t i = 0; i < static_cast<size_t>(block); ++i) {
        const double exact = std::tanh(-static_cast<double>(x[i]));
        const double share = std::fabs(static_cast<double>(y[i]) - exact) / (exact * 0x1p-22);
        worst = share > worst ? share : worst;
        CHECK(mirrored[i] == -y[i], "%s: tanh(%g) is not odd", isa->name, double(x[i]));
      }
    }
    std::printf("tanh %s: worst error %.3f of the one that is declared\n", isa->name, worst);
    CHECK(worst <= 1.0, "%s: %g", isa->name, worst);
  }
}

void special() {
  const float inf = INFINITY;
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
    float x[16] = {0.0f, -0.0f, -inf, NAN, -1e-45f, -104.0f, -1e30f, -0x1p-27f, -200.0f};
    float y[16];
    isa->kernels->exp(x, y, 16);
    for (int i : {0, 1, 4, 7}) CHECK(y[i] == 1.0f, "%s: exp(%g) = %g", isa->name, double(x[i]), double(y[i]));
    for (int i : {2, 5, 6, 8}) CHECK(y[i] == 0.0f, "%s: exp(%g) = %g", isa->name, double(x[i]), double(y[i]));
    CHECK(std::isnan(y[3]), "%s: exp(NaN) = %g", isa->name, double(y[3]));
    const float ends[16] = {inf, -inf, NAN, 0.0f, -0.0f, 90.0f, -1e30f, 1e-45f, 88.7f};
    isa->kernels->tanh(ends, y, 16);
    for (int i : {0, 5}) CHECK(y[i] == 1.0f, "%s: tanh(%g) = %g", isa->name, double(ends[i]), double(y[i]));
    for (int i : {1, 6}) CHECK(y[i] == -1.0f, "%s: tanh(%g) = %g", isa->name, double(ends[i]), double(y[i]));
    for (int i : {3, 4, 7}) CHECK(y[i] == ends[i], "%s: tanh(%g) = %g", isa->name, double(ends[i]), double(y[i]));
    CHECK(std::isnan(y[2]), "%s: tanh(NaN) = %g", isa->name, double(y[2]));
    /* a running max that scores may exceed needs exp above 0 too */
    const float above[16] = {1.0f, 50.0f, 88.0f, 89.0f, 110.0f};
    isa->kernels->exp(above, y, 16);
    for (int i : {0, 1, 2}) {
      const double exact = std::exp(static_cast<double>(above[i]));
      CHECK(std::fabs(static_cast<double>(y[i]) - exact) <= exact * 0x1p-23, "%s: exp(%g) = %g", isa->name,
            double(above[i]), double(y[i]));
    }
    for (int i : {3, 4}) CHECK(y[i] == inf, "%s: exp(%g) = %g", isa->name, double(above[i]), double(y[i]));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int step = argc > 1 ? std::atoi(argv[1]) : 1;
  special();
  sweep(step > 0 ? static_cast<uint32_t>(step) : 1u);
  sweep_tanh(step > 1 ? static_cast<uint32_t>(step) * 97u : 997u);
  return check::finish("exp");
}
