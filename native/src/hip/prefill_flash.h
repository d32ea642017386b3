/* Prefill: flash attention on matrix cores. A block takes 64 query rows of one kv head, sixteen a wave, a row being one
 * query of one head of the group, query-major; so a key tile is read once for the whole group. Q stays in registers; K
 * and V go through one LDS buffer in stages, the next stage already on its way from memory while this one is
 * multiplied. Tiles that no row of a block sees are not read, those that no row of a wave sees not multiplied. */
#pragma once

#include "attend_naive.h"
#include "mma.h"

namespace greta {

/* The greatest that divides both. */
constexpr int divisor(int a, int b) {
  return b == 0 ? a : divisor(b, a % b);
}

/* T: the type that is multiplied; D: the head's width, rounded up to a multiple of 16. */
template <class T, int D>
struct FlashShape {
  static constexpr int threads = flash_waves * gpu::wave;
  static constexpr int stage = sizeof(T) == 4 && D >= 128 ? 32 : 64; /* keys; fits the LDS, of D 128 twice */
  static constexpr int stages = tile_keys / stage;
  static constexpr int k_stride = D + 4; /* the padding turns a column of quads over all banks */
  static constexpr int quads = D / 4;
  static constexpr int k_runs = stage * quads / threads;
  static constexpr int side_by_side = divisor(quads, threads); /* threads that fetch of one row of K at once */
  static constexpr int turns = quads / side_by_side;           /* until the row is fetched */
  static constexpr int v_squares = (stage / 4 * quads + threads - 1) / threads;
  static constexpr bool whole = stage / 4 * quads % threads == 0; /* every thread has all its squares */
  static constexpr int buffer = stage * k_stride;
  static_assert(stage * side_by_side % threads == 0, "every thread fetches as many runs of K as the others");
  static_assert(D * stage <= buffer, "V fits where K was");
  static_assert(buffer * static_cast<int>(sizeof(T)) <= 65536, "LDS of a CDNA compute unit");
};

/* A stage of V is stored transposed, [dim][key], a quad of keys of one dim together; quads are permuted within their
 * dim, so that sixteen neighbouring dims, which are read at once, use different banks, and so do those that are written
 * at once. */
template <int stage>
GPU_FN int v_place(int dim, int key) {
  const int quad = (key / 4) ^ ((dim / 4 + dim % 4 * 4) & (stage / 4 - 1));
  return dim * stage + quad * 4;
}

/* What a thread has fetched of the next stage. */
template <class T, int D>
struct Fetched {
  using Shape = FlashShape<T, D>;
  static constexpr int most = Shape::k_runs > 4 * Shape::v_squares ? Shape::k_runs : 4 * Shape::v_squares;
  Quad<T> run[most];
};

/* Four elements of a cache row, zero where there is no row or no such dim: what is not visible to any row of the block
 * is never read, so that 0 meets 0 in P.V whatever lies there. */
template <class T>
GPU_FN Quad<T> fetch_quad(const char* row, int dim, int32_t width, int32_t dtype) {
  Quad<T> quad{};
  if (row == nullptr || dim >= width) return quad;
  float x[4];
  load_run<4>(row + static_cast<int64_t>(dim) * size_of(dtype), dtype, x);
  GPU_UNROLL for (int i = 0; i < 4; ++i) quad.x[i] = from_float<T>(x[i]);
  return quad;
}

/* Keys of the stage that begins at `first`; lo .. hi - 1 exist. */
struct Stage {
  const AttendParams& p;
  const Sequence& seq;
  int32_t kv_head, first, lo, hi;

  GPU_FN int64_t index(int32_t key) const {
    const int32_t row = first + key;
    return row < lo || row >= hi ? -1 : row_index(p.cache, seq.pages, kv_head, row);
  }
};

/* A thread's i-th run of K: its key and first dim. Few different dims a thread, and few different keys, because what is
 * known of each is kept in registers. */
template <class T, int D>
struct KeyRun {
  using Shape = FlashShape<T, D>;
  int32_t key, dim;

  GPU_FN explicit KeyRun(int i)
      : key(i / Shape::turns * (Shape::threads / Shape::side_by_side) + gpu::thread() / Shape::side_by_side),
        dim((i % Shape::turns * Shape::side_by_side + gpu::thread() % Shape::side_by_side) * 4) {}
};

template <class T, int D>
GPU_FN void fetch_keys(Fetched<T, D>& fetched, const Stage& stage) {
  using Shape = FlashShape<T, D>;
  GPU_UNROLL for (int i = 0; i < Shape::k_runs; ++i) {
    const KeyRun<T, D> run(i);
    const int64_t index = stage.index(run.key);
    fetched.run[i] = fetch_quad<T>(index < 0 ? nullptr : k_row(stage.p.cache, index), run.dim, stage.p.cache.dqk,
                                   stage.p.cache.dtype);
  }
}

template <class T, int D>
GPU_FN void put_keys(T* buffer, const Fetched<T, D>& fetched) {
  using Shape = FlashShape<T, D>;
  GPU_UNROLL for (int i = 0; i < Shape::k_runs; ++i) {
    const KeyRun<T, D> run(i);
    *reinterpret_cast<Quad<T>*>(buffer + run.key * Shape::k_stride + run.dim) = fetched.run[i];
  }
}

/* Squares of four keys by four dims, so that they can be transposed in registers. */
template <class T, int D>
GPU_FN void fetch_values(Fetched<T, D>& fetched, const Stage& stage) {
  using Shape = FlashShape<T, D>;
  GPU_UNROLL for (int i = 0; i < Shape::v_squares; ++i) {
    const int square = i * Shape::threads + gpu::thread(), key = square / Shape::quads * 4;
    GPU_UNROLL for (int j = 0; j < 4; ++j) {
      const int64_t index = Shape::whole || key < Shape::stage ? stage.index(key + j) : -1;
      fetched.run[4 * i + j] = fetch_quad<T>(index < 0 ? nullptr : v_row(stage.p.cache, index),
                                             square % Shape::quads * 4, stage.p.cache.dv, stage.p.cache.dtype);
    }
  }
}

template <class T, int D>
GPU_FN void put_values(T* buffer, const Fetched<T, D>& fetched) {
  using Shape = FlashShape<T, D>;
  GPU_UNROLL for (int i = 0; i < Shape::v_squares; ++i) {
    const int square = i * Shape::threads + gpu::thread(), key = square / Shape::quads * 4;
    const int dim = square % Shape::quads * 4;
    if (!Shape::whole && key >= Shape::stage) continue;
    GPU_UNROLL for (int d = 0; d < 4; ++d) {
      Quad<T> quad;
      GPU_UNROLL for (int j = 0; j < 4; ++j) quad.x[j] = fetched.run[4 * i + j].x[d];
      *reinterpret_cast<Quad<T>*>(buffer + v_place<Shape::stage>(dim + d, key)) = quad;
    }
  }
}

/* The query rows of a wave, as one lane sees them: `columns` of them, by Layout's numbering. */
template <class T>
struct Rows {
  static constexpr int columns = Layout<T>::columns;
  int32_t token[columns], head[columns], lo[columns], hi[columns]; /* hi <= lo: sees nothing; token -1: no row */
  float m[columns], l[columns];                                    /* l: this lane's part of the sum */
};

template <class T>
GPU_FN Rows<T> rows_of(const AttendParams& p, const Sequence& seq, int32_t kv_head, int32_t first_row) {
  Rows<T> rows;
  GPU_UNROLL for (int c = 0; c < Rows<T>::columns; ++c) {
    const int32_t row = first_row + Layout<T>::column(c), query = row / p.group;
    const bool exists = query < seq.q_len;
    rows.token[c] = exists ? seq.first_token + query : -1;
    rows.head[c] = kv_head * p.group + row % p.group;
    rows.lo[c] = exists ? seq.first_key(query, p.window) : 0;
    rows.hi[c] = exists ? seq.last_key(query) + 1 : 0;
    rows.m[c] = -infinity;
    rows.l[c] = 0.0f;
  }
  return rows;
}

/* Q^T of the wave's rows as right operands. */
template <class T, int D>
GPU_FN void load_queries(const AttendParams& p, const Sequence& seq, int32_t kv_head, int32_t first_row,
                         Fragment<T> (&q)[D / 16]) {
  GPU_UNROLL for (int e = 0; e < Layout<T>::elements; ++e) {
    const int32_t row = first_row + Layout<T>::operand_column(e), query = row / p.group;
    const int64_t at = element(p.q, seq.first_token + query, kv_head * p.group + row % p.group);
    GPU_UNROLL for (int d = 0; d < D / 16; ++d) {
      const int32_t dim = d * 16 + Layout<T>::operand_k(e);
      const bool exists = query < seq.q_len && dim < p.cache.dqk;
      q[d].x[e] = from_float<T>(exists ? load(p.q.data, p.dtype, at + dim) : 0.0f);
    }
  }
}

/* Products of a tile become P, as right operands; m, l and what was summed so far follow. */
template <class T, int D>
GPU_FN void online_softmax(const AttendParams& p, Rows<T>& rows, int32_t first, Accumulator (&s)[tile_keys / 16],
                           Accumulator (&sum)[D / 16], Fragment<T> (&weights)[tile_keys / 16]) {
  constexpr int columns = Rows<T>::columns, elements = Layout<T>::elements;
  float rescale[columns], shift[columns];
  GPU_UNROLL for (int c = 0; c < columns; ++c) {
    const Scores score = scores_of(p, rows.head[c]);
    float highest = -infinity;
    GPU_UNROLL for (int i = 0; i < tile_keys / 16; ++i) {
      GPU_UNROLL for (int e = 0; e < elements; ++e) {
        if (Layout<T>::column_of(e) != c) continue;
        const int32_t key = first + i * 16 + Layout<T>::row(e);
        const bool seen = key >= rows.lo[c] && key < rows.hi[c];
        s[i].x[e] = seen ? score(s[i].x[e], key, rows.hi[c] - 1) : -infinity;
        highest = larger(highest, s[i].x[e]);
      }
    }
    const float m = larger(rows.m[c], max_of_column<T>(highest));
    shift[c] = m == -infinity ? 0.0f : m;
    rescale[c] = exp_of(rows.m[c] - shift[c]);
    rows.m[c] = m;
    rows.l[c] *= rescale[c];
  }
  GPU_UNROLL for (int i = 0; i < tile_keys / 16; ++i) {
    GPU_UNROLL for (int e = 0; e < elements; ++e) {
      const int c = Layout<T>::column_of(e);
      const float weight = exp_of(s[i].x[e] - shift[c]);
      rows.l[c] += weight;
      s[i].x[e] = p.round_p != 0 ? rounded_to(p.dtype, weight) : weight;
    }
    weights[i] = as_operand<T>(s[i]);
  }
  GPU_UNROLL for (int d = 0; d < D / 16; ++d) {
    GPU_UNROLL for (int e = 0; e < elements; ++e) sum[d].x[e] *= rescale[Layout<T>::column_of(e)];
  }
}

template <class T, int D>
GPU_FN void write_rows(const AttendParams& p, const Rows<T>& rows, int32_t kv_head, const Accumulator (&sum)[D / 16]) {
  GPU_UNROLL for (int c = 0; c < Rows<T>::columns; ++c) {
    const float l = sum_of_column<T>(rows.l[c]);
    if (rows.token[c] < 0) continue;
    const Finish end = finish(rows.m[c], l, p.sinks == nullptr ? -infinity : p.sinks[rows.head[c]]);
    const int64_t at = element(p.out, rows.token[c], rows.head[c]);
    GPU_UNROLL for (int d = 0; d < D / 16; ++d) {
      GPU_UNROLL for (int e = 0; e < Layout<T>::elements; ++e) {
        const int32_t dim = d * 16 + Layout<T>::row(e);
        if (Layout<T>::column_of(e) != c || dim >= p.cache.dv) continue;
        store(p.out.data, p.dtype, at + dim, end.out(sum[d].x[e], p.v_scale[kv_head]));
      }
    }
    if (Layout<T>::row(0) == 0 && p.lse.data != nullptr) {
      store(p.lse.data, GRETA_F32, element(p.lse, rows.token[c], rows.head[c]), end.lse());
    }
  }
}

template <class T, int D>
GPU_FN void prefill_flash(const AttendParams& p) {
  using Shape = FlashShape<T, D>;
  GPU_SHARED(T, buffer, (FlashShape<T, D>::buffer));
  const int32_t kv_head = gpu::block_y(), block_row = gpu::block_x() * flash_rows;
  const Sequence seq = sequence_of(p.batch, p.cache, gpu::block_z());
  const int32_t n_rows = seq.q_len * p.group;
  if (block_row >= n_rows) return;
  const int32_t first_row = block_row + gpu::wave_index() * 16;
  const int32_t last_row = (block_row + flash_rows < n_rows ? block_row + flash_rows : n_rows) - 1;
  const int32_t wave_last = first_row + 15 < last_row ? first_row + 15 : last_row;
  /* what a row sees begins and ends later than what the row before it sees */
  const int32_t lo = seq.first_key(block_row / p.group, p.window), hi = seq.last_key(last_row / p.group) + 1;
  const int32_t wave_lo = seq.first_key(first_row / p.group, p.window), wave_hi = seq.last_key(wave_last / p.group) + 1;

  Rows<T> rows = rows_of<T>(p, seq, kv_head, first_row);
  Fragment<T> q[D / 16], weights[tile_keys / 16] = {};
  load_queries<T, D>(p, seq, kv_head, first_row, q);
  Accumulator sum[D / 16] = {};
  Fetched<T, D> fetched;
  const auto stage_at = [&](int32_t tile, int32_t part) {
    return Stage{p, seq, kv_head, tile * tile_keys + part * Shape::stage, lo, hi};
  };
  const int32_t begin = lo / tile_keys, end = hi > lo ? (hi - 1) / tile_keys + 1 : begin;
  if (begin < end) fetch_keys(fetched, stage_at(begin, 0));
  for (int32_t tile = begin; tile < end; ++tile) {
    const int32_t first = tile * tile_keys;
    const bool seen = first_row <= last_row && first < wave_hi && first + tile_keys > wave_lo; /* of this wave */
    Accumulator s[tile_keys / 16] = {};
    for (int part = 0; part < Shape::stages; ++part) {
      put_keys<T, D>(buffer, fetched);
      gpu::sync(); /* K is there */
      if (part + 1 < Shape::stages) {
        fetch_keys(fetched, stage_at(tile, part + 1));
      } else {
        fetch_values(fetched, stage_at(tile, 0));
      }
      GPU_UNROLL for (int i = 0; i < Shape::stage / 16 && seen; ++i) {
        GPU_UNROLL for (int d = 0; d < D / 16; ++d) {
          Fragment<T> k;
          load_a(k, [&](int row, int dim) { return buffer + (i * 16 + row) * Shape::k_stride + d * 16 + dim; });
          GPU_UNROLL for (int where = 0; where < Shape::stages; ++where) { /* registers cannot be indexed */
            if (where == part) multiply(s[where * (Shape::stage / 16) + i], k, q[d]);
          }
        }
      }
      gpu::sync(); /* K is used */
    }
    if (seen) online_softmax<T, D>(p, rows, first, s, sum, weights);
    for (int part = 0; part < Shape::stages; ++part) {
      put_values<T, D>(buffer, fetched);
      gpu::sync(); /* V is there */
      if (part + 1 < Shape::stages) {
        fetch_values(fetched, stage_at(tile, part + 1));
      } else if (tile + 1 < end) {
        fetch_keys(fetched, stage_at(tile + 1, 0));
      }
      GPU_UNROLL for (int i = 0; i < Shape::stage / 16 && seen; ++i) {
        Fragment<T> p_stage = weights[i];
        GPU_UNROLL for (int where = 1; where < Shape::stages; ++where) {
          if (where == part) p_stage = weights[where * (Shape::stage / 16) + i];
        }
        GPU_UNROLL for (int d = 0; d < D / 16; ++d) {
          Fragment<T> v;
          load_a(v, [&](int dim, int key) { return buffer + v_place<Shape::stage>(d * 16 + dim, i * 16 + key); });
          multiply(sum[d], v, p_stage);
        }
      }
      gpu::sync(); /* V is used */
    }
  }
  write_rows<T, D>(p, rows, kv_head, sum);
}

}  // namespace greta
