/* Attention as its definition reads, for both phases: which differ in their walk, and here nothing is walked. One query
 * of one head after the other, all its scores, one softmax, one sum; double throughout, and rounded to f32 and to the
 * activation type at the end. No tiles, splits, running max or rounded P: it is free of the schedule, and shares no
 * line with span.h or walk.h. */
#include "attend_reference.h"

#include <cmath>
#include <vector>

#include "config.h"
#include "dtypes.h"

namespace greta {
namespace reference {
namespace {

/* From the header's words: kv_start .. last, cut by the window. */
bool sees(const AttendArgs& args, const Sequence& seq, int32_t last, int32_t key) {
  return key >= seq.kv_start && key <= last && (args.window == 0 || last - key < args.window);
}

/* [dim] of one key or value, from the page that holds it: [page][kv head][slot][dim]. */
void load(const AttendArgs& args, const Sequence& seq, const char* cache, int32_t key, int32_t kv_head, int32_t dim,
          float* row) {
  const int64_t page = seq.pages[key / args.page_size], slot = key % args.page_size;
  const int64_t index = ((page * args.n_kv_heads + kv_head) * args.page_size + slot) * dim;
  row_to_f32(args.kv_dtype, cache + index * static_cast<int64_t>(dtype_size(args.kv_dtype)), dim, row);
}

/* [dim] of a tensor's token and head. */
char* place(const greta_tensor& tensor, int32_t token, int32_t head) {
  return static_cast<char*>(tensor.data) +
         (token * tensor.token_stride + head * tensor.head_stride) * static_cast<int64_t>(dtype_size(tensor.dtype));
}

void attend_row(const AttendArgs& args, const Sequence& seq, int32_t query, int32_t head) {
  const int32_t kv_head = head / (args.n_heads / args.n_kv_heads), token = seq.first_token + query;
  const int32_t last = seq.kv_len - seq.q_len + query; /* the query's own row */
  float q[max_head_dim], k[max_head_dim], v[max_head_dim];
  row_to_f32(args.act_dtype, place(args.q, token, head), args.dqk, q);

  std::vector<double> scores; /* [keys that are seen] */
  std::vector<int32_t> keys;
  double m = args.sinks == nullptr ? -INFINITY : static_cast<double>(args.sinks[head]);
  for (int32_t key = 0; key < seq.kv_len; ++key) {
    if (!sees(args, seq, last, key)) continue;
    load(args, seq, args.k, key, kv_head, args.dqk, k);
    double dot = 0.0;
    for (int32_t i = 0; i < args.dqk; ++i) dot += static_cast<double>(q[i]) * static_cast<double>(k[i]);
    double s = dot * static_cast<double>(args.k_scale[kv_head]) * static_cast<double>(args.scale);
    if (args.softcap != 0.0f) s = static_cast<double>(args.softcap) * std::tanh(s / static_cast<double>(args.softcap));
    if (args.alibi != nullptr) s += static_cast<double>(args.alibi[head]) * (key - last);
    scores.push_back(s);
    keys.push_back(key);
    m = s > m ? s : m;
  }

  double l = args.sinks == nullptr ? 0.0 : std::exp(static_cast<double>(args.sinks[head]) - m), out[max_head_dim] = {};
  const bool empty = m == -INFINITY;
  for (size_t j = 0; j < keys.size() && !empty; ++j) {
    const double p = std::exp(scores[j] - m); /* not yet divided by l */
    load(args, seq, args.v, keys[j], kv_head, args.dv, v);
    l += p;
    for (int32_t i = 0; i < args.dv; ++i) out[i] += p * static_cast<double>(v[i]);
  }
  float rounded[max_head_dim];
  for (int32_t i = 0; i < args.dv; ++i) {
    rounded[i] = empty ? 0.0f : static_cast<float>(out[i] / l * static_cast<double>(args.v_scale[kv_head]));
  }
  row_from_f32(args.act_dtype, rounded, args.dv, place(args.out, token, head));
  if (args.lse.data == nullptr) return;
  const float lse = empty ? -INFINITY : static_cast<float>(m + std::log(l));
  std::memcpy(place(args.lse, token, head), &lse, sizeof lse);
}

void attend(const AttendArgs& args) {
  for (int32_t i = 0; i < args.n_seqs; ++i) {
    for (int32_t query = 0; query < args.seqs[i].q_len; ++query) {
      for (int32_t head = 0; head < args.n_heads; ++head) attend_row(args, args.seqs[i], query, head);
    }
  }
}

constexpr char prefill_name[] = "plain_prefill", decode_name[] = "plain_decode";

void prefill(const AttendArgs& args) {
  attend(args);
  args.counters->count(prefill_name, args.phase);
}

void decode(const AttendArgs& args) {
  attend(args);
  args.counters->count(decode_name, args.phase);
}

size_t scratch_floats(const AttendArgs&) {
  return 0;
}

void exp_array(const float* x, float* y, int32_t n) {
  for (int32_t i = 0; i < n; ++i) y[i] = std::exp(x[i]);
}

void tanh_array(const float* x, float* y, int32_t n) {
  for (int32_t i = 0; i < n; ++i) y[i] = std::tanh(x[i]);
}

}  // namespace

const Kernels kernels = {prefill_name, decode_name, scratch_floats, prefill, decode, exp_array, tanh_array};

}  // namespace reference
}  // namespace greta
