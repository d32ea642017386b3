/* Drawn configurations against float64, every instruction set: types of activations and cache, head sizes, GQA,
 * windows, page sizes, chunked prefill, ragged batches, left padding, soft caps, sinks, biases, scales, schedules,
 * decode in blocks and lengths around the edges of tiles, pages, windows and splits up to 4096. Each configuration is a
 * request's life: prefill in chunks over a paged cache full of NaN, then decode. What is compared lies within the
 * derived bound of docs/concepts/numerics.md, or the test fails.
 *
 *   test_matrix [COUNT [SEED]]   3000 configurations take some minutes */
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>

#include "coverage.h"
#include "isa.h"
#include "reference.h"

namespace {

struct Plan {
  Case c;
  int32_t chunk, steps, q_len, threads;
  /* By sequence: the first row whose query is asked (those before are only written), and the first that is decoded. */
  std::vector<int32_t> asked, decoded;
};

constexpr double most_work = 3e7;   /* products of one prefill, for the sake of the portable kernels */
constexpr double most_judged = 4e6; /* products of the reference in one configuration; what is beyond is sampled */

const std::initializer_list<std::pair<const char*, int32_t>> storage = {{"f32", GRETA_F32},
                                                                        {"bf16", GRETA_BF16},
                                                                        {"f16", GRETA_F16},
                                                                        {"fp8_e4m3fn", GRETA_FP8_E4M3FN},
                                                                        {"fp8_e4m3fnuz", GRETA_FP8_E4M3FNUZ}};

std::vector<float> uniform(std::mt19937& rng, int32_t n, float lo, float hi) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float& x : values) x = std::uniform_real_distribution<float>(lo, hi)(rng);
  return values;
}

greta_schedule draw_schedule(Coverage& cover, std::mt19937& rng, const char* phase, float softcap, bool hot) {
  const auto name = [&](const char* field) { return std::string(phase) + " " + field; };
  greta_schedule s{};
  s.tile = cover.draw(rng, name("tile").c_str(), {1, 7, 16, 31, 64, 96, 128, 5000});
  s.splits = cover.draw(rng, name("splits").c_str(), {1, 2, 3, 9});
  s.direction =
      cover.draw<int32_t>(rng, name("direction").c_str(), {{"forward", GRETA_FORWARD}, {"reverse", GRETA_REVERSE}});
  s.tile_origin =
      cover.draw<int32_t>(rng, name("origin").c_str(), {{"zero", GRETA_ORIGIN_ZERO}, {"window", GRETA_ORIGIN_WINDOW}});
  const auto any = [&](int32_t n) { return std::uniform_int_distribution<int32_t>(0, n - 1)(rng); };
  s.p_dtype = any(5);
  s.max_update = GRETA_MAX_EVERY_TILE + any(3);
  /* with m = 0 weights are exp(s): scores so high that they leave P's type are not the kernel's to answer for */
  const bool capped = softcap > 0.0f && softcap <= 4.0f, fp8 = s.p_dtype >= GRETA_FP8_E4M3FN;
  if (s.max_update == GRETA_MAX_NONE && !capped && (hot || fp8))
    s.max_update = hot ? GRETA_MAX_LAZY : GRETA_MAX_EVERY_TILE;
  if (s.max_update == GRETA_MAX_LAZY) s.max_threshold = std::uniform_real_distribution<float>(0.0f, 2.0f)(rng);
  if (s.max_update == GRETA_MAX_EVERY_TILE && cover.draw(rng, name("p_scale").c_str())) {
    s.p_scale = std::uniform_real_distribution<float>(0.25f, 240.0f)(rng);
  }
  for (const auto& type : storage) cover.saw(name("P").c_str(), type.first, s.p_dtype == type.second);
  cover.saw(name("max").c_str(), "every_tile", s.max_update == GRETA_MAX_EVERY_TILE);
  cover.saw(name("max").c_str(), "lazy", s.max_update == GRETA_MAX_LAZY);
  cover.saw(name("max").c_str(), "none", s.max_update == GRETA_MAX_NONE);
  return s;
}

/* A length of its own kind: at the edges where things go wrong, or anything. */
int32_t draw_length(Coverage& cover, std::mt19937& rng, const Case& c, bool far) {
  if (far) {
    cover.saw("length", "up to 4096", true);
    return std::uniform_int_distribution<int32_t>(601, 4096)(rng);
  }
  cover.saw("length", "up to 4096", false);
  const greta_schedule& s = c.schedule[std::uniform_int_distribution<int>(0, 1)(rng)];
  const auto pick = [&](int32_t most) { return std::uniform_int_distribution<int32_t>(1, std::max(1, most))(rng); };
  const auto multiple = [&](int32_t of) { return of * pick(std::min(4, 600 / of)); };
  const int32_t tile = std::min(s.tile, 128), page = c.page_size > 0 && c.page_size < 600 ? c.page_size : 16;
  const int32_t window = c.window > 0 ? c.window : 16, split = tile * s.splits;
  const auto any =
      static_cast<int32_t>(std::lround(std::exp(std::uniform_real_distribution<double>(0.0, std::log(600.0))(rng))));
  const int32_t length = cover.draw<int32_t>(rng, "length",
                                             {{"1", 1},
                                              {"2", 2},
                                              {"tile - 1", multiple(tile) - 1},
                                              {"tile", multiple(tile)},
                                              {"tile + 1", multiple(tile) + 1},
                                              {"page - 1", multiple(page) - 1},
                                              {"page", multiple(page)},
                                              {"page + 1", multiple(page) + 1},
                                              {"window - 1", window - 1},
                                              {"window", window},
                                              {"window + 1", window + 1},
                                              {"split - 1", multiple(std::min(split, 600)) - 1},
                                              {"split + 1", multiple(std::min(split, 600)) + 1},
                                              {"log-uniform", any},
                                              {"log-uniform too", any}});
  return std::clamp(length, 1, 600);
}

Plan draw_plan(Coverage& cover, std::mt19937& rng, int number) {
  Plan plan{};
  Case& c = plan.c;
  const bool far = number % 50 == 49; /* a few long ones */
  c.act = cover.draw<int32_t>(rng, "dtype", {{"f32", GRETA_F32}, {"bf16", GRETA_BF16}, {"f16", GRETA_F16}});
  c.kv = cover.draw<int32_t>(rng, "kv dtype", storage);
  c.dqk = cover.draw(rng, "head size", {64, 80, 96, 128, 192, 256, 33, 1});
  const int32_t other = cover.draw(rng, "head size of V", {64, 80, 96, 128, 192, 256, 7});
  c.dv = cover.draw(rng, "Dk != Dv") ? other : c.dqk;
  c.kv_heads = far ? 1 : cover.draw(rng, "kv heads", {1, 2, 3, 4});
  const int32_t group = cover.draw(rng, "heads per kv head", {1, 2, 3, 4, 8});
  c.heads = c.kv_heads * group;
  c.page_size = cover.draw(rng, "page size", {0, 1, 5, 16, 64, 128, 5000});
  c.window = cover.draw(rng, "window", {0, 0, 1, 2, 15, 16, 17, 40, 128, 300});
  const bool hot = cover.draw(rng, "hot logits");
  c.q_size = hot ? 4.0f : 1.0f;
  c.softcap = cover.draw<float>(rng, "soft cap", {{"none", 0.0f}, {"none too", 0.0f}, {"4", 4.0f}, {"30", 30.0f}});
  const int32_t sinks = cover.draw<int32_t>(rng, "sinks", {{"none", 0}, {"all", 1}, {"one of -inf", 2}});
  if (sinks > 0) c.sinks = uniform(rng, c.heads, -4.0f, 6.0f);
  if (sinks > 1) c.sinks[0] = -INFINITY;
  if (cover.draw(rng, "ALiBi")) c.alibi = uniform(rng, c.heads, 0.0f, 0.5f);
  if (cover.draw(rng, "k scale")) c.k_scale = uniform(rng, c.kv_heads, 0.01f, 1.5f);
  if (cover.draw(rng, "v scale")) c.v_scale = uniform(rng, c.kv_heads, 0.01f, 3.0f);
  c.schedule[0] = draw_schedule(cover, rng, "prefill", c.softcap, hot);
  c.schedule[1] = draw_schedule(cover, rng, "decode", c.softcap, hot);
  plan.chunk = cover.draw<int32_t>(
      rng, "chunk", {{"whole", 1 << 20}, {"1", 1}, {"7", 7}, {"16", 16}, {"64", 64}, {"page + 1", c.page_size + 1}});
  plan.q_len = cover.draw(rng, "q_len", {1, 2, 3, 5});
  plan.steps = cover.draw(rng, "steps", {1, 2, 4});
  plan.threads = cover.draw(rng, "threads", {1, 2, 3});
  const int32_t n_seqs = far ? 1 : cover.draw(rng, "batch", {1, 2, 3, 5});
  const bool padded = cover.draw(rng, "kv_start");
  for (int32_t act = GRETA_F32; act <= GRETA_F16; ++act) {
    for (int32_t kv = GRETA_F32; kv <= GRETA_FP8_E4M3FNUZ; ++kv) {
      cover.saw("dtype x kv dtype", (std::to_string(act) + "/" + std::to_string(kv)).c_str(),
                c.act == act && c.kv == kv);
    }
  }
  for (int32_t kv = GRETA_F32; kv <= GRETA_FP8_E4M3FNUZ; ++kv) {
    for (int32_t size : {64, 80, 96, 128, 192, 256}) {
      cover.saw("kv dtype x head size", (std::to_string(kv) + "/" + std::to_string(size)).c_str(),
                c.kv == kv && c.dqk == size);
    }
  }
  for (int32_t i = 0; i < n_seqs; ++i) {
    const int32_t length = draw_length(cover, rng, c, far);
    const int32_t pad = padded ? std::min(length - 1, cover.draw(rng, "pad", {0, 1, 16, 63, 300})) : 0;
    c.kv_len.push_back(length);
    c.kv_start.push_back(pad);
    plan.decoded.push_back(std::max(pad, length - plan.q_len * plan.steps));
    /* as many queries as the portable kernels do in a moment */
    const double row = static_cast<double>(length) * c.heads * (c.dqk + c.dv);
    const auto most = static_cast<int32_t>(std::max(4.0, most_work / n_seqs / row));
    plan.asked.push_back(std::max(pad, plan.decoded.back() - most));
    c.max_len = std::max(c.max_len, length);
  }
  c.max_len += std::uniform_int_distribution<int32_t>(0, 3)(rng);
  return plan;
}

/* The tensors of a request, rows of all sequences one after the other: q and out [rows, heads, dim], k and v [rows,
 * kv_heads, dim]. Values from one pool of normals, taken up anew at each row. */
struct Data {
  std::vector<size_t> first; /* row of each sequence */
  size_t rows = 0;
  Bytes q, k, v;

  Data(const Case& c, std::mt19937& rng) {
    for (int32_t n : c.kv_len) {
      first.push_back(rows);
      rows += static_cast<size_t>(n);
    }
    q = tensor(c.act, rows * static_cast<size_t>(c.heads), static_cast<size_t>(c.dqk), c.q_size, rng);
    k = tensor(c.act, rows * static_cast<size_t>(c.kv_heads), static_cast<size_t>(c.dqk), 1.0f, rng);
    v = tensor(c.act, rows * static_cast<size_t>(c.kv_heads), static_cast<size_t>(c.dv), 1.0f, rng);
  }

 private:
  static Bytes tensor(int32_t dtype, size_t count, size_t dim, float size, std::mt19937& rng) {
    constexpr size_t pool_size = 1 << 14;
    const Bytes pool = random_tensor(dtype, pool_size + 256, rng, size);
    Bytes data(count * dim * size_of(dtype));
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(&data[i * dim * size_of(dtype)], &pool[(rng() % pool_size) * size_of(dtype)], dim * size_of(dtype));
    }
    return data;
  }
};

/* One instruction set's run of a plan: what each row got, and the cache at the end. */
class Life {
 public:
  const char* isa;
  Bytes out;               /* [rows, heads, dv] */
  std::vector<float> lse;  /* [rows, heads] */
  std::vector<Bytes> k, v; /* by sequence, [kv_len, kv_heads, dim] */
  bool opened = false;

  Life(const char* isa_name, const Plan& plan, const Data& data, const std::vector<int32_t>& table,
       const std::vector<int32_t>& seq_ids)
      : isa(isa_name), plan_(plan), data_(data), table_(table), seq_ids_(seq_ids) {
    const Case& c = plan.c;
    session_ = open_poisoned(c, plan.threads);
    opened = session_ != nullptr;
    if (!opened) return;
    out.assign(data.rows * row(c.heads, c.dv) * size_of(c.act), 0xab);
    lse.assign(data.rows * static_cast<size_t>(c.heads), 7.0f);
    std::vector<int32_t> done = c.kv_start;
    advance(done, plan.asked, 1 << 20, -1);
    advance(done, plan.decoded, plan.chunk, GRETA_PREFILL);
    advance(done, c.kv_len, plan.q_len, GRETA_DECODE);
    for (int32_t i = 0; i < c.n_seqs(); ++i) {
      const int32_t rows = c.kv_len[static_cast<size_t>(i)];
      k.emplace_back(static_cast<size_t>(rows) * row(c.kv_heads, c.dqk) * size_of(c.kv));
      v.emplace_back(static_cast<size_t>(rows) * row(c.kv_heads, c.dv) * size_of(c.kv));
      CHECK(greta_kv_read(session_, layer, seq_ids[static_cast<size_t>(i)], 0, rows, k.back().data(),
                          v.back().data()) == GRETA_OK,
            "%s", greta_last_error());
    }
    greta_close(session_);
  }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

 private:
  static size_t row(int32_t heads, int32_t dim) { return static_cast<size_t>(heads) * static_cast<size_t>(dim); }

  /* All sequences from `done` to `target`, at most `step` rows a call: written and, with a phase, asked. */
  void advance(std::vector<int32_t>& done, const std::vector<int32_t>& target, int32_t step, int32_t phase) {
    while (done != target) {
      std::vector<int32_t> cu{0}, next = done;
      std::vector<size_t> rows; /* of the data, by token */
      std::vector<int32_t> slots;
      for (size_t i = 0; i < done.size(); ++i) {
        next[i] = done[i] + std::min(step, target[i] - done[i]);
        for (int32_t slot = done[i]; slot < next[i]; ++slot) {
          rows.push_back(data_.first[i] + static_cast<size_t>(slot));
          slots.push_back(slot);
        }
        cu.push_back(static_cast<int32_t>(slots.size()));
      }
      call(cu, next, rows, slots, phase);
      done = next;
    }
  }

  void call(const std::vector<int32_t>& cu, const std::vector<int32_t>& kv_len, const std::vector<size_t>& rows,
            const std::vector<int32_t>& slots, int32_t phase) {
    const Case& c = plan_.c;
    greta_batch batch{};
    batch.struct_size = sizeof batch;
    batch.n_seqs = c.n_seqs();
    batch.n_tokens = cu.back();
    batch.max_q_len = batch.max_kv_len = c.max_len;
    batch.cu_q = cu.data();
    batch.kv_len = kv_len.data();
    batch.kv_start = c.kv_start.data();
    batch.positions = batch.slots = slots.data();
    batch.seq_ids = seq_ids_.data();
    batch.block_table = table_.empty() ? nullptr : table_.data();
    Bytes k_rows = gather(data_.k, rows, c.kv_heads, c.dqk), v_rows = gather(data_.v, rows, c.kv_heads, c.dv);
    const auto tensor = [&](void* data, int32_t dtype, int32_t heads, int32_t dim) {
      return greta_tensor{data, dtype, int64_t{heads} * dim, dim};
    };
    const greta_tensor k_tensor = tensor(k_rows.data(), c.act, c.kv_heads, c.dqk),
                       v_tensor = tensor(v_rows.data(), c.act, c.kv_heads, c.dv);
    CHECK(greta_kv_write(session_, layer, &batch, &k_tensor, &v_tensor) == GRETA_OK, "%s", greta_last_error());
    if (phase < 0) return;
    Bytes q = gather(data_.q, rows, c.heads, c.dqk), got(rows.size() * row(c.heads, c.dv) * size_of(c.act), 0xab);
    std::vector<float> got_lse(rows.size() * static_cast<size_t>(c.heads), 7.0f);
    const greta_tensor q_tensor = tensor(q.data(), c.act, c.heads, c.dqk),
                       out_tensor = tensor(got.data(), c.act, c.heads, c.dv),
                       lse_tensor = tensor(got_lse.data(), GRETA_F32, c.heads, 1);
    CHECK(
        greta_attend(session_, layer, phase, &batch, &q_tensor, nullptr, nullptr, &out_tensor, &lse_tensor) == GRETA_OK,
        "%s", greta_last_error());
    const size_t out_bytes = row(c.heads, c.dv) * size_of(c.act), heads = static_cast<size_t>(c.heads);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(&out[rows[i] * out_bytes], &got[i * out_bytes], out_bytes);
      std::copy_n(&got_lse[i * heads], heads, &lse[rows[i] * heads]);
    }
  }

  Bytes gather(const Bytes& source, const std::vector<size_t>& rows, int32_t heads, int32_t dim) const {
    const size_t bytes = row(heads, dim) * size_of(plan_.c.act);
    Bytes result(rows.size() * bytes);
    for (size_t i = 0; i < rows.size(); ++i) std::memcpy(&result[i * bytes], &source[rows[i] * bytes], bytes);
    return result;
  }

  const Plan& plan_;
  const Data& data_;
  const std::vector<int32_t>&table_, &seq_ids_;
  greta_session* session_ = nullptr;
};

/* The rows that are compared: what was decoded, both ends of prefill, then others as far as the budget goes. */
std::vector<int32_t> judged_rows(const Plan& plan, size_t seq, double budget, std::mt19937& rng) {
  const int32_t asked = plan.asked[seq], decoded = plan.decoded[seq], end = plan.c.kv_len[seq];
  std::vector<int32_t> first, rest;
  for (int32_t row = end - 1; row >= asked; --row) {
    const bool edge = row >= decoded || row == decoded - 1 || row == asked;
    (edge ? first : rest).push_back(row);
  }
  std::shuffle(rest.begin(), rest.end(), rng);
  first.insert(first.end(), rest.begin(), rest.end());
  const double row = static_cast<double>(plan.c.heads) * end * (plan.c.dqk + 3 * plan.c.dv);
  const auto most = static_cast<size_t>(std::max(2.0, budget / row));
  if (first.size() > most) first.resize(most);
  return first;
}

/* A fast kernel's row against the plain kernel's: the plain one rounds once, where it stores. */
void compare(const Case& c, const Expected& e, const unsigned char* fast, const unsigned char* plain, const char* isa) {
  for (size_t i = 0; i < e.out.size(); ++i) {
    const double x = decode(c.act, fast + i * size_of(c.act)), y = decode(c.act, plain + i * size_of(c.act));
    const double rounding = std::max(unit(c.act) * std::fabs(y), half_subnormal(c.act));
    const bool near = x == y || outside(c.act, x, y) <= e.bound[i] + rounding;
    CHECK(near, "out[%zu] %.9g of %s, %.9g of the plain kernel, bound %g", i, x, isa, y, e.bound[i]);
    if (!near) return;
  }
}

/* All instruction sets' results against one reference, made from the bytes that the cache holds. */
void judge_all(const Plan& plan, const Data& data, const std::vector<const Life*>& lives, std::mt19937& rng,
               Tally* tallies) {
  const Case& c = plan.c;
  const auto heads = static_cast<size_t>(c.heads);
  const bool copied = c.act == c.kv;
  for (size_t i = 0; i < c.kv_len.size(); ++i) {
    for (const Life* life : lives) {
      CHECK(life->k[i] == lives[0]->k[i] && life->v[i] == lives[0]->v[i], "the cache depends on the instruction set");
    }
    const size_t bytes = static_cast<size_t>(c.kv_heads * c.dqk) * size_of(c.kv),
                 pad = static_cast<size_t>(c.kv_start[i]);
    if (copied && c.k_scale.empty()) {
      CHECK(std::memcmp(&lives[0]->k[i][pad * bytes], &data.k[(data.first[i] + pad) * bytes],
                        lives[0]->k[i].size() - pad * bytes) == 0,
            "K rows of sequence %zu are not those that were written", i);
    }
    const Contents cache(c, lives[0]->k[i], lives[0]->v[i]);
    for (int32_t row : judged_rows(plan, i, most_judged / c.n_seqs(), rng)) {
      const size_t at = (data.first[i] + static_cast<size_t>(row)) * heads;
      const greta_schedule& schedule = c.schedule[row < plan.decoded[i] ? GRETA_PREFILL : GRETA_DECODE];
      for (size_t head = 0; head < heads; ++head) {
        const unsigned char* query = &data.q[(at + head) * static_cast<size_t>(c.dqk) * size_of(c.act)];
        const Row r = row_of(c, static_cast<int32_t>(i), row + 1, static_cast<int32_t>(head), query, cache);
        const Expected e = expected_of(c, r, schedule);
        const auto out = [&](const Life* life) {
          return &life->out[(at + head) * static_cast<size_t>(c.dv) * size_of(c.act)];
        };
        for (const Life* life : lives) {
          const bool plain = life == lives.back();
          judge(c, e, out(life), life->lse[at + head], tallies[plain ? 2 : schedule.p_dtype == GRETA_F32 ? 0 : 1]);
          if (!plain) compare(c, e, out(life), out(lives.back()), life->isa);
        }
      }
    }
  }
}

std::vector<int32_t> shuffled(int32_t n, std::mt19937& rng) {
  std::vector<int32_t> x;
  for (int32_t i = 0; i < n; ++i) x.push_back(i);
  std::shuffle(x.begin(), x.end(), rng);
  return x;
}

void describe(const Plan& plan, int number) {
  const Case& c = plan.c;
  std::fprintf(
      stderr,
      "configuration %d: types %d/%d, heads %d/%d, sizes %d/%d, page %d, window %d, chunk %d, q_len %d, threads %d\n",
      number, c.act, c.kv, c.heads, c.kv_heads, c.dqk, c.dv, c.page_size, c.window, plan.chunk, plan.q_len,
      plan.threads);
  for (const greta_schedule& s : c.schedule) {
    std::fprintf(stderr, "  tile %d, splits %d, direction %d, origin %d, max %d, P %d\n", s.tile, s.splits, s.direction,
                 s.tile_origin, s.max_update, s.p_dtype);
  }
  for (size_t i = 0; i < c.kv_len.size(); ++i) {
    std::fprintf(stderr, "  rows %d .. %d, asked from %d, decoded from %d\n", c.kv_start[i], c.kv_len[i], plan.asked[i],
                 plan.decoded[i]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 250;
  const auto seed = static_cast<uint32_t>(argc > 2 ? std::atoi(argv[2]) : 1);
  Coverage cover;
  Tally tallies[3]; /* the fast kernels with P in f32, in a narrower type, and the plain kernel */
  int failed = 0;
  for (int number = 0; number < count; ++number) {
    std::mt19937 rng(seed * 1000003u + static_cast<uint32_t>(number)); /* each configuration alone can be had again */
    const Plan plan = draw_plan(cover, rng, number);
    const Data data(plan.c, rng);
    const std::vector<int32_t> table = shuffled_pages(plan.c, rng), seq_ids = shuffled(plan.c.n_seqs(), rng);
    const int failures = check::failures;
    std::vector<std::unique_ptr<Life>> owned;
    std::vector<const Life*> lives;
    for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
      setenv("GRETA_CPU_ISA", isa->name, 1);
      owned.push_back(std::make_unique<Life>(isa->name, plan, data, table, seq_ids));
      if (owned.back()->opened) lives.push_back(owned.back().get());
    }
    if (!lives.empty()) judge_all(plan, data, lives, rng, tallies);
    if (check::failures == failures) continue;
    ++failed;
    describe(plan, number);
  }
  if (count >= 250) cover.check_all();
  std::printf("  plain kernel: %ld elements, worst rho %.3f\n", tallies[2].elements, tallies[2].worst);
  std::printf("matrix: %d configurations, %ld elements, worst rho %.3f (%.3f where P is rounded), %d failed\n", count,
              tallies[0].elements + tallies[1].elements, tallies[0].worst, tallies[1].worst, failed);
  return check::failures == 0 ? 0 : 1;
}
