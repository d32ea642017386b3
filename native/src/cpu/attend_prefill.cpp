/* Prefill: tiled flash attention. A task is a block of query rows of one kv head; it walks the key tiles from its
 * first to its last visible key, its K tile transposed once for all rows. Compiled once per instruction set. */
#include "kernels_isa.h"
#include "threads.h"
#include "walk.h"

namespace greta {
namespace GRETA_ISA {
namespace {

int32_t blocks_of(const AttendArgs& args, const Sequence& seq) {
  const int32_t most = rows_per_block(args);
  return (seq.q_len * (args.n_heads / args.n_kv_heads) + most - 1) / most;
}

void run_block(const AttendArgs& args, const Sequence& seq, int32_t kv_head, int32_t index, float* memory) {
  const int32_t rows = seq.q_len * (args.n_heads / args.n_kv_heads), most = rows_per_block(args);
  const int32_t row0 = index * most, n_rows = rows - row0 < most ? rows - row0 : most;
  Block block{args, seq, kv_head, row0, n_rows, nullptr, nullptr, nullptr, nullptr, {}, {}, {}};
  float* partials = place(block, memory);
  const auto row_floats = static_cast<size_t>(partial_stride(args.dv));
  const size_t split_floats = row_floats * block_rows;
  load_queries(block);
  const Span span = span_of(args, seq, row0 / block.group());
  for (int32_t split = 0; split < args.schedule.splits; ++split) {
    for (int32_t r = 0; r < n_rows; ++r) {
      block.partial[r] = partials + static_cast<size_t>(split) * split_floats + static_cast<size_t>(r) * row_floats;
    }
    reset(block);
    walk(block, span, split);
  }
  for (int32_t r = 0; r < n_rows; ++r) {
    finish_row(args, partials + static_cast<size_t>(r) * row_floats, split_floats, block.token(r), block.head(r),
               block.hi[r] - 1);
  }
}

}  // namespace

size_t scratch_floats(const AttendArgs& args) {
  const size_t partials =
      static_cast<size_t>(args.schedule.splits) * block_rows * static_cast<size_t>(partial_stride(args.dv));
  return (block_floats(args) + partials + 15) / 16 * 16;
}

void prefill(const AttendArgs& args) {
  int64_t tasks = 0;
  for (int32_t i = 0; i < args.n_seqs; ++i) tasks += int64_t{args.n_kv_heads} * blocks_of(args, args.seqs[i]);
#pragma omp parallel for num_threads(args.threads) schedule(dynamic) if (args.threads > 1)
  for (int64_t task = 0; task < tasks; ++task) {
    int32_t i = 0;
    int64_t rest = task;
    while (rest >= int64_t{args.n_kv_heads} * blocks_of(args, args.seqs[i])) {
      rest -= int64_t{args.n_kv_heads} * blocks_of(args, args.seqs[i++]);
    }
    const int32_t blocks = blocks_of(args, args.seqs[i]);
    run_block(args, args.seqs[i], static_cast<int32_t>(rest / blocks), static_cast<int32_t>(rest % blocks),
              args.scratch + static_cast<size_t>(thread_index()) * args.scratch_stride);
  }
  args.counters->count(prefill_name, args.phase);
}

}  // namespace GRETA_ISA
}  // namespace greta
