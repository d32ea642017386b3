/* Decode: split-KV. A task is one split of one kv head of one sequence, all query heads of the group together, so that
 * K and V are streamed once; a second pass joins the splits of each row. Compiled once per instruction set. */
#include "kernels_isa.h"
#include "threads.h"
#include "walk.h"

namespace greta {
namespace GRETA_ISA {
namespace {

size_t split_floats(const AttendArgs& args) {
  return static_cast<size_t>(args.n_tokens) * static_cast<size_t>(args.n_heads) *
         static_cast<size_t>(partial_stride(args.dv));
}

float* partial_of(const AttendArgs& args, int32_t token, int32_t head) {
  return args.partials + (static_cast<size_t>(token) * static_cast<size_t>(args.n_heads) + static_cast<size_t>(head)) *
                             static_cast<size_t>(partial_stride(args.dv));
}

void run_split(const AttendArgs& args, const Sequence& seq, int32_t kv_head, int32_t split, float* memory) {
  const int32_t rows = seq.q_len * (args.n_heads / args.n_kv_heads);
  const int32_t most = rows_per_block(args);
  for (int32_t row0 = 0; row0 < rows; row0 += most) {
    const int32_t n_rows = rows - row0 < most ? rows - row0 : most;
    Block block{args, seq, kv_head, row0, n_rows, nullptr, nullptr, nullptr, nullptr, {}, {}, {}};
    place(block, memory);
    for (int32_t r = 0; r < n_rows; ++r) {
      block.partial[r] =
          partial_of(args, block.token(r), block.head(r)) + static_cast<size_t>(split) * split_floats(args);
    }
    reset(block);
    load_queries(block);
    walk(block, span_of(args, seq, row0 / block.group()), split);
  }
}

}  // namespace

void decode(const AttendArgs& args) {
  const int64_t tasks = int64_t{args.n_seqs} * args.n_kv_heads * args.schedule.splits;
#pragma omp parallel for num_threads(args.threads) schedule(dynamic) if (args.threads > 1)
  for (int64_t task = 0; task < tasks; ++task) {
    const auto split = static_cast<int32_t>(task % args.schedule.splits);
    const int64_t rest = task / args.schedule.splits;
    run_split(args, args.seqs[rest / args.n_kv_heads], static_cast<int32_t>(rest % args.n_kv_heads), split,
              args.scratch + static_cast<size_t>(thread_index()) * args.scratch_stride);
  }
  for (int32_t i = 0; i < args.n_seqs; ++i) {
    const Sequence& seq = args.seqs[i];
    for (int32_t query = 0; query < seq.q_len; ++query) {
      const int32_t token = seq.first_token + query, position = last_key(seq, query);
      for (int32_t head = 0; head < args.n_heads; ++head) {
        finish_row(args, partial_of(args, token, head), split_floats(args), token, head, position);
      }
    }
  }
  args.counters->count(decode_name, args.phase);
}

}  // namespace GRETA_ISA
}  // namespace greta
