/* Matrix instructions, emulated lane by lane. Where an instruction keeps the elements of its operands is a table of
 * coordinates, written from the vendors' public documents and not from mma.h, which is what it checks:
 *
 * AMD: "AMD Instinct MI300 Instruction Set Architecture" (CDNA 3), chapter 7, and AMD's matrix instruction calculator
 *   (github.com/ROCm/amd_matrix_instruction_calculator), e.g.
 *   `matrix_calculator.py -a cdna3 -i v_mfma_f32_16x16x16_f16 -R --A-matrix` (then -B, -D).
 * NVIDIA: "Parallel Thread Execution ISA", sections "Matrix Fragments for mma.m16n8k16 with floating point type" and
 *   "movmatrix". */
#pragma once

#include "../types.h"

namespace greta {
namespace gpu {

/* Row and column, within its matrix, of element `e` of a lane. */
struct At {
  int row, column;
};

/* v_mfma_f32_16x16x16_f16 and _bf16: A [16][16] i, k; B [16][16] k, j; D [16][16] i, j. "A: i = lane % 16, k = 4 (lane
 * / 16)
 * + e. B: j = lane % 16, k = 4 (lane / 16) + e. D: j = lane % 16, i = 4 (lane / 16) + e." */
struct Mfma16x16x16 {
  static constexpr int depth = 16, operand = 4;
  static At a(int lane, int e) { return {lane % 16, 4 * (lane / 16) + e}; }
  static At b(int lane, int e) { return {4 * (lane / 16) + e, lane % 16}; }
  static At d(int lane, int e) { return {4 * (lane / 16) + e, lane % 16}; }
};

/* v_mfma_f32_16x16x4_f32: "A: i = lane % 16, k = lane / 16. B: j = lane % 16, k = lane / 16." D as above. */
struct Mfma16x16x4 {
  static constexpr int depth = 4, operand = 1;
  static At a(int lane, int) { return {lane % 16, lane / 16}; }
  static At b(int lane, int) { return {lane / 16, lane % 16}; }
  static At d(int lane, int e) { return Mfma16x16x16::d(lane, e); }
};

/* One lane's registers. The products of a step are added one after the other in float, each sum rounded to nearest:
 * what greta_describe of the emulation declares. Real matrix cores add in another order and round otherwise. */
template <class T, int a_elements, int b_elements>
struct MatrixLane {
  T a[a_elements], b[b_elements];
  float d[4];
};

template <class Layout, class T>
void multiply_wave(unsigned char* const* lanes) {
  using Lane = MatrixLane<T, Layout::operand, Layout::operand>;
  float a[16][Layout::depth], b[Layout::depth][16], d[16][16];
  for (int lane = 0; lane < wave; ++lane) {
    const auto* own = reinterpret_cast<const Lane*>(lanes[lane]);
    for (int e = 0; e < Layout::operand; ++e) {
      const At at_a = Layout::a(lane, e), at_b = Layout::b(lane, e);
      a[at_a.row][at_a.column] = to_float(own->a[e]);
      b[at_b.row][at_b.column] = to_float(own->b[e]);
    }
    for (int e = 0; e < 4; ++e) {
      const At at = Layout::d(lane, e);
      d[at.row][at.column] = own->d[e];
    }
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < Layout::depth; ++k) {
      for (int j = 0; j < 16; ++j) d[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < wave; ++lane) {
    auto* own = reinterpret_cast<Lane*>(lanes[lane]);
    for (int e = 0; e < 4; ++e) {
      const At at = Layout::d(lane, e);
      own->d[e] = d[at.row][at.column];
    }
  }
}

template <class Layout, class T>
inline void mfma(const char* name, const T* a, const T* b, float* d) {
  MatrixLane<T, Layout::operand, Layout::operand> own;
  memcpy(own.a, a, sizeof own.a);
  memcpy(own.b, b, sizeof own.b);
  memcpy(own.d, d, sizeof own.d);
  collective(name, &own, multiply_wave<Layout, T>);
  memcpy(d, own.d, sizeof own.d);
}

/* mma.sync.aligned.m16n8k16: with group = lane / 4 and member = lane % 4,
 * "A: row = group for e in 0, 1, 4, 5, else group + 8; column = 2 member + e % 2, + 8 for e >= 4.
 *  B: row = 2 member + e % 2, + 8 for e >= 2; column = group.
 *  C, D: row = group for e < 2, else group + 8; column = 2 member + e % 2." */
struct MmaM16n8k16 {
  static At a(int lane, int e) {
    return {lane / 4 + (e / 2 % 2 == 0 ? 0 : 8), lane % 4 * 2 + e % 2 + (e >= 4 ? 8 : 0)};
  }
  static At b(int lane, int e) { return {lane % 4 * 2 + e % 2 + (e >= 2 ? 8 : 0), lane / 4}; }
  static At d(int lane, int e) { return {lane / 4 + (e < 2 ? 0 : 8), lane % 4 * 2 + e % 2}; }
};

template <class T>
void multiply_warp(unsigned char* const* lanes) {
  using Lane = MatrixLane<T, 8, 4>;
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < wave; ++lane) {
    const auto* own = reinterpret_cast<const Lane*>(lanes[lane]);
    for (int e = 0; e < 8; ++e) a[MmaM16n8k16::a(lane, e).row][MmaM16n8k16::a(lane, e).column] = to_float(own->a[e]);
    for (int e = 0; e < 4; ++e) b[MmaM16n8k16::b(lane, e).row][MmaM16n8k16::b(lane, e).column] = to_float(own->b[e]);
    for (int e = 0; e < 4; ++e) d[MmaM16n8k16::d(lane, e).row][MmaM16n8k16::d(lane, e).column] = own->d[e];
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < wave; ++lane) {
    auto* own = reinterpret_cast<Lane*>(lanes[lane]);
    for (int e = 0; e < 4; ++e) own->d[e] = d[MmaM16n8k16::d(lane, e).row][MmaM16n8k16::d(lane, e).column];
  }
}

template <class T>
inline void mma_m16n8k16(const T* a, const T* b, float* d) {
  MatrixLane<T, 8, 4> own;
  memcpy(own.a, a, sizeof own.a);
  memcpy(own.b, b, sizeof own.b);
  memcpy(own.d, d, sizeof own.d);
  collective("mma.m16n8k16", &own, multiply_warp<T>);
  memcpy(d, own.d, sizeof own.d);
}

/* movmatrix.sync.aligned.m8n8.trans.b16: an 8 x 8 matrix of 16-bit elements, of which a lane holds row lane / 4,
 * columns 2 (lane % 4) and the next, becomes its transpose. */
inline uint32_t movmatrix(uint32_t x) {
  collective("movmatrix", &x, [](unsigned char* const* lanes) {
    uint16_t matrix[8][8];
    for (int lane = 0; lane < 32; ++lane) memcpy(&matrix[lane / 4][lane % 4 * 2], lanes[lane], 4);
    for (int lane = 0; lane < 32; ++lane) {
      const uint16_t own[2] = {matrix[lane % 4 * 2][lane / 4], matrix[lane % 4 * 2 + 1][lane / 4]};
      memcpy(lanes[lane], own, 4);
    }
  });
  return x;
}

}  // namespace gpu
}  // namespace greta
