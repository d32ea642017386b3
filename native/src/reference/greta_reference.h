/* greta_reference.h: the passes of the float64 checks over every element, compiled. Private: only pytest_greta.checks
 * calls them, through checks/compiled.py. Nothing here is shared with the attention kernels, which these passes judge.
 * The definition of each is in Python, and what is a constant there comes as an argument.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GRETA_REFERENCE_H
#define GRETA_REFERENCE_H

#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* cdef begin */
/* Values as they were stored, `rows` of `elements` each, one after the other. */
typedef struct {
  const void* data;
  int32_t type;           /* 0 float32, 1 bfloat16, 2 float16 */
  double smallest_normal; /* of that type */
  double u;               /* its unit roundoff */
  int64_t rows;
  int64_t elements;
} greta_reference_stored;

/* The reference of each value and the terms of its bound, laid out alike. `root` and `root2`, of the first and the
 * second tier, are both null where det is the whole bound. */
typedef struct {
  const double* y;
  const double* det;
  const double* root;
  const double* root2;
} greta_reference_bounded;

/* RoPE of x, laid out as the stored values, whose rows are `elements` / `dim` heads: y = own x + other x', x' the other
 * one of its pair, and the bound the same of the magnitudes, plus `floor`. The tables are [rows, rotary]; what lies
 * beyond `rotary` in a head is x itself, with a bound of 0. */
typedef struct {
  const void* x;       /* of the stored values' type */
  int32_t interleaved; /* pairs (2i, 2i + 1); else (i, i + rotary / 2) */
  int64_t dim;         /* at most GRETA_REFERENCE_DIM */
  int64_t rotary;      /* even, at most dim */
  const double* own;
  const double* other;
  const double* own_bound;
  const double* other_bound;
  double floor;
} greta_reference_rope;

enum { GRETA_REFERENCE_DIM = 1024 };

/* What is found of each row. `index`: [rows], the element with the largest e / (det + root). `table`: [10, rows], the
 * largest e / (det + root), e / (det + root2) and (e - det) / root, the first two at least 0; one row that is left
 * alone; sum (v - y) y; sum y^2; and the y, v, e and bound of that element. */
typedef struct {
  double* table;
  int64_t* index;
  int32_t pull; /* else the third is left alone */
} greta_reference_rows;

/* Both only ever say "within": 1, every value is finite and no further from its reference than its bound, and `rows` is
 * filled. Else 0, and `rows` holds nothing of use: the definition (checks/judge.py, checks/reference.py) finds out. */
int32_t greta_reference_within(const greta_reference_stored* stored, const greta_reference_bounded* reference,
                               const greta_reference_rows* rows);
int32_t greta_reference_rope_within(const greta_reference_stored* stored, const greta_reference_rope* rope,
                                    const greta_reference_rows* rows);

/* Scores of attention, [heads, rows, keys] as all that is by key; row r of each head sees keys begin[r / group] up to
 * end[r / group], which lie within 0 .. keys. Between the two functions `weight` becomes exp(weight). */
typedef struct {
  int64_t heads;
  int64_t rows;
  int64_t keys;
  int64_t group;
  const int64_t* begin;
  const int64_t* end;
  const double* sink; /* [heads, rows], null: none */
  double* s;          /* m where a key is not seen, from shift on */
  double* m;          /* [heads, rows]: the largest score seen, the sink one of them; -inf where there is none */
  double* weight;     /* s - m from shift; weight / l from normalise, 0 where a key is not seen */
  double* l;          /* [heads, rows]: the sum of the weights; 1 where m is -inf */
  double* eps;        /* distance |s - m| + det + exp_rel */
  const double* det;
  double distance;
  double exp_rel;
  double*
      seen; /* [6, heads, rows]: least, largest and sum of the scores that are seen, and the same of the weights / l */
} greta_reference_scores;

/* m is 0 for both where it is -inf. */
void greta_reference_shift(const greta_reference_scores* scores);
void greta_reference_normalise(const greta_reference_scores* scores);

/* Attention after its softmax: p, the scores s, A and det of eps [heads, rows, keys] each; m and the least weight that
 * does not vanish [heads, rows]; v [heads, keys, dim]; o [heads, rows, dim]. */
typedef struct {
  const double* p;
  const double* s;
  const double* a;
  const double* det;
  const double* m;
  const double* least;
  const double* v;
  const double* o;
  int64_t heads;
  int64_t rows;
  int64_t keys;
  int64_t dim;
  double u;     /* of float32 */
  double slope; /* (slope, constant): EPS_RESCALE */
  double constant;
  double relative; /* by what part of itself a weight may be off */
} greta_reference_softmax;

/* With the terms t = (p A, p M, p (u M + det)), M = slope max(|m|, |s|) + constant: sum_j t [heads, rows, 3];
 * sum_j t |v_j - o| [heads, rows, 3, dim]; max(relative p, min(p, least)) [heads, rows, keys]. */
typedef struct {
  double* total;
  double* spread;
  double* envelope;
  double* scratch; /* 6 times keys */
} greta_reference_weighed;

void greta_reference_weigh(const greta_reference_softmax* softmax, const greta_reference_weighed* weighed);

/* The values in float64, and their magnitudes. */
void greta_reference_widen(const float* values, int64_t count, double* wide, float* magnitude);

/* Which of `rows` rows of `bytes` bytes are the same in both: 1 or 0 each. */
void greta_reference_same(const void* left, const void* right, int64_t rows, int64_t bytes, uint8_t* same);
/* cdef end */

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* GRETA_REFERENCE_H */
