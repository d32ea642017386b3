/* The product of two 16 x 16 tiles on one wave, D += A B in float, on whatever the device has for it: MFMA on CDNA,
 * mma.sync on NVIDIA for the 16-bit types, shuffles elsewhere.
 *
 * The attention kernels compute transposes: scores as K Q^T and outputs as V^T P^T, so that a column of every result is
 * one query. On CDNA a lane then holds four neighbouring keys of its one query as a result, which is just how it must
 * hold them as the operand of the next product: P never leaves its registers. mma.sync needs one movmatrix for that. */
#pragma once

#include "maths.h"
#if defined(GRETA_EMULATED)
#include "emulate/matrix_core.h"
#endif

namespace greta {

/* Where elements lie: `rows` of A, `rows` of D, columns of D. */
template <class T>
struct LaneLayout { /* CDNA's, and its stretch to other wave widths: neighbouring k and rows in one lane */
  static constexpr int elements = 256 / gpu::wave, columns = 1;

  GPU_FN static int operand_column(int) { return gpu::lane() % 16; } /* row of A, column of B */
  GPU_FN static int operand_k(int e) { return elements * (gpu::lane() / 16) + e; }
  GPU_FN static int row(int e) { return elements * (gpu::lane() / 16) + e; } /* of D */
  GPU_FN static constexpr int column_of(int) { return 0; }   /* which of the lane's columns element e of D is in */
  GPU_FN static int column(int) { return gpu::lane() % 16; } /* the lane's c-th column of D */
  static constexpr int first_mask = 16;                      /* lanes that differ in these bits share their columns */
};

struct WarpLayout { /* mma.m16n8k16 twice, side by side */
  static constexpr int elements = 8, columns = 4;

  GPU_FN static int a_row(int e) { return gpu::lane() / 4 + (e / 2 % 2 == 0 ? 0 : 8); }
  GPU_FN static int a_k(int e) { return gpu::lane() % 4 * 2 + e % 2 + e / 4 * 8; }
  GPU_FN static int operand_column(int e) { return gpu::lane() / 4 + e / 4 * 8; }            /* of B */
  GPU_FN static int operand_k(int e) { return gpu::lane() % 4 * 2 + e % 2 + e / 2 % 2 * 8; } /* of B */
  GPU_FN static int row(int e) { return gpu::lane() / 4 + e / 2 % 2 * 8; }
  GPU_FN static constexpr int column_of(int e) { return e / 4 * 2 + e % 2; }
  GPU_FN static int column(int c) { return gpu::lane() % 4 * 2 + c % 2 + c / 2 * 8; }
  static constexpr int first_mask = 4;
};

template <class T>
struct LayoutOf {
  using Type = LaneLayout<T>;
};
#if defined(__CUDACC__) || (defined(GRETA_EMULATED) && GRETA_WAVE == 32)
template <>
struct LayoutOf<Bf16> {
  using Type = WarpLayout;
};
template <>
struct LayoutOf<F16> {
  using Type = WarpLayout;
};
#define GRETA_WARP_MMA 1
#endif
template <class T>
using Layout = typename LayoutOf<T>::Type;

template <class T>
struct Fragment {
  T x[256 / gpu::wave];
};
struct Accumulator {
  float x[256 / gpu::wave];
};

/* Four elements that are loaded and stored together. */
template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T x[4];
};

/* A: `quad(row, k)` is where elements k .. k + 3 of a row lie, k a multiple of 4. */
template <class T, class Where>
GPU_FN void load_a(Fragment<T>& a, const Where& quad) {
#if defined(GRETA_WARP_MMA)
  if constexpr (sizeof(T) == 2) {
    GPU_UNROLL for (int e = 0; e < 8; e += 2) {
      const int k = WarpLayout::a_k(e);
      __builtin_memcpy(a.x + e, quad(WarpLayout::a_row(e), k & ~3) + (k & 2), 4);
    }
  } else
#endif
  {
    GPU_UNROLL for (int e = 0; e < LaneLayout<T>::elements; e += 4) {
      const auto run =
          *reinterpret_cast<const Quad<T>*>(quad(LaneLayout<T>::operand_column(e), LaneLayout<T>::operand_k(e)));
      GPU_UNROLL for (int i = 0; i < 4; ++i) a.x[e + i] = run.x[i];
    }
  }
}

#if defined(GRETA_EMULATED)
GPU_FN void matrix_step(const Bf16* a, const Bf16* b, float* d) {
#if GRETA_WAVE == 64
  gpu::mfma<gpu::Mfma16x16x16>("mfma_f32_16x16x16bf16", a, b, d);
#else
  gpu::mma_m16n8k16(a, b, d);
#endif
}
GPU_FN void matrix_step(const F16* a, const F16* b, float* d) {
#if GRETA_WAVE == 64
  gpu::mfma<gpu::Mfma16x16x16>("mfma_f32_16x16x16f16", a, b, d);
#else
  gpu::mma_m16n8k16(a, b, d);
#endif
}
GPU_FN uint32_t transposed(uint32_t x) {
  return gpu::movmatrix(x);
}
#elif defined(__CUDACC__)
template <class T>
GPU_FN void matrix_step(const T* a, const T* b, float* d) {
  uint32_t x[4], y[2];
  __builtin_memcpy(x, a, sizeof x);
  __builtin_memcpy(y, b, sizeof y);
  if constexpr (sizeof(T) != 2) {
    return;
  } else if constexpr (T::is_bf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  }
}
GPU_FN uint32_t transposed(uint32_t x) {
  uint32_t y;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}
#else
using Float4 = float __attribute__((ext_vector_type(4)));
using Short4 = short __attribute__((ext_vector_type(4)));
using Half4 = _Float16 __attribute__((ext_vector_type(4)));

template <class Vector, class T>
GPU_FN Vector vector_of(const T* x) {
  Vector v;
  __builtin_memcpy(&v, x, sizeof v);
  return v;
}
GPU_FN void keep(Float4 result, float* d) {
  __builtin_memcpy(d, &result, sizeof result);
}
GPU_FN void matrix_step(const Bf16* a, const Bf16* b, float* d) {
  keep(__builtin_amdgcn_mfma_f32_16x16x16bf16_1k(vector_of<Short4>(a), vector_of<Short4>(b), vector_of<Float4>(d), 0, 0,
                                                 0),
       d);
}
GPU_FN void matrix_step(const F16* a, const F16* b, float* d) {
  keep(__builtin_amdgcn_mfma_f32_16x16x16f16(vector_of<Half4>(a), vector_of<Half4>(b), vector_of<Float4>(d), 0, 0, 0),
       d);
}
#endif

/* D += A B. */
template <class T>
GPU_FN void multiply(Accumulator& d, const Fragment<T>& a, const Fragment<T>& b) {
#if defined(GRETA_WARP_MMA)
  matrix_step(a.x, b.x, d.x);
  matrix_step(a.x, b.x + 4, d.x + 4);
#else
  matrix_step(a.x, b.x, d.x);
#endif
}

#if defined(GRETA_WARP_MMA)
/* The scalar twin, for float where no matrix core takes it: every lane adds up its own elements of D. */
template <>
GPU_FN void multiply<float>(Accumulator& d, const Fragment<float>& a, const Fragment<float>& b) {
  constexpr int n = LaneLayout<float>::elements;
  GPU_UNROLL for (int k = 0; k < 16; ++k) {
    const float right = gpu::shuffle(b.x[k % n], k / n * 16 + gpu::lane() % 16);
    GPU_UNROLL for (int e = 0; e < n; ++e) {
      d.x[e] += gpu::shuffle(a.x[k % n], k / n * 16 + LaneLayout<float>::row(e)) * right;
    }
  }
}
#else
/* Four products of depth 4, of the k that lanes hold as their first, second, ... element: any order of k is right as
 * long as A and B have the same one. */
template <>
GPU_FN void multiply<float>(Accumulator& d, const Fragment<float>& a, const Fragment<float>& b) {
  GPU_UNROLL for (int i = 0; i < 4; ++i) {
#if defined(GRETA_EMULATED)
    gpu::mfma<gpu::Mfma16x16x4>("mfma_f32_16x16x4f32", a.x + i, b.x + i, d.x);
#else
    keep(__builtin_amdgcn_mfma_f32_16x16x4f32(a.x[i], b.x[i], vector_of<Float4>(d.x), 0, 0, 0), d.x);
#endif
  }
}
#endif

/* A result as the right operand of the next product: its rows become k, its columns stay. */
template <class T>
GPU_FN Fragment<T> as_operand(const Accumulator& d) {
  Fragment<T> b;
  GPU_UNROLL for (int e = 0; e < 256 / gpu::wave; ++e) b.x[e] = from_float<T>(d.x[e]);
#if defined(GRETA_WARP_MMA)
  if constexpr (sizeof(T) == 2) {
    GPU_UNROLL for (int e = 0; e < 8; e += 2) {
      uint32_t pair;
      __builtin_memcpy(&pair, b.x + e, 4);
      pair = transposed(pair);
      __builtin_memcpy(b.x + e, &pair, 4);
    }
  }
#endif
  return b;
}

/* Of one column, over all its rows, which lie in several lanes. */
template <class T>
GPU_FN float max_of_column(float x) {
  GPU_UNROLL for (int mask = Layout<T>::first_mask; mask < (Layout<T>::columns == 1 ? gpu::wave : 32); mask *= 2) {
    x = larger(x, gpu::shuffle_xor(x, mask));
  }
  return x;
}
template <class T>
GPU_FN float sum_of_column(float x) {
  GPU_UNROLL for (int mask = Layout<T>::first_mask; mask < (Layout<T>::columns == 1 ? gpu::wave : 32); mask *= 2) {
    x += gpu::shuffle_xor(x, mask);
  }
  return x;
}

}  // namespace greta
