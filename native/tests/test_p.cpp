/* P as it meets V, dumped by a build of the kernels that does so, against the double P rounded in the schedule's order:
 * tiles, splits, direction, origin, running max, pre-scale and type. Where the two ends of what a score may be off by
 * round to one value, P must be that value; elsewhere it must lie between. Prints the share of the latter. */
#include <array>
#include <cstdlib>
#include <map>

#include "isa.h"
#include "p_dump.h"
#include "reference.h"

namespace {

struct Weight {
  double p, m;
};
/* [token, head, key] */
std::map<std::array<int32_t, 3>, Weight> dumped;
long twice = 0;

struct Share {
  long all = 0, undecided = 0;
};
Share shares[5]; /* by type of P */

/* The keys of one row, by split and then by tile in the order of the walk. From the words of the header and of
 * docs/concepts/numerics.md, not from the kernels. */
std::vector<std::vector<std::vector<int32_t>>> walk_of(const Case& c, const greta_schedule& schedule, int32_t seq,
                                                       const Row& row) {
  const bool from_window = schedule.tile_origin == GRETA_ORIGIN_WINDOW, own = from_window && c.window > 0;
  const int32_t begin = own ? row.lo : c.lo(seq, 0), end = own ? row.hi : c.kv_len[static_cast<size_t>(seq)];
  const auto tile_of = [&](int32_t key) { return (from_window ? key - begin : key) / schedule.tile; };
  const int32_t first = tile_of(begin), tiles = tile_of(end - 1) - first + 1;
  const int32_t each = (tiles + schedule.splits - 1) / schedule.splits;
  std::vector<std::vector<std::vector<int32_t>>> splits(static_cast<size_t>(schedule.splits));
  int32_t previous = -1;
  for (int32_t key = row.lo; key < row.hi; ++key) {
    auto& split = splits[static_cast<size_t>((tile_of(key) - first) / each)];
    if (split.empty() || tile_of(key) != previous) split.emplace_back();
    split.back().push_back(key);
    previous = tile_of(key);
  }
  if (schedule.direction == GRETA_REVERSE) {
    for (auto& split : splits) std::reverse(split.begin(), split.end());
  }
  return splits;
}

void compare_row(const Case& c, const greta_schedule& schedule, int32_t seq, int32_t token, int32_t head,
                 const Row& row) {
  if (row.n() == 0) return;
  const double p_scale = schedule.p_scale == 0.0f ? 1.0 : static_cast<double>(schedule.p_scale);
  const double most_ds = *std::max_element(row.ds.begin(), row.ds.end());
  for (const auto& split : walk_of(c, schedule, seq, row)) {
    double m = -static_cast<double>(INFINITY);
    for (const auto& tile : split) {
      double highest = -static_cast<double>(INFINITY);
      for (int32_t key : tile) highest = std::max(highest, row.s[static_cast<size_t>(key - row.lo)]);
      const bool kept = schedule.max_update == GRETA_MAX_LAZY && m > -static_cast<double>(INFINITY) &&
                        highest - m <= static_cast<double>(schedule.max_threshold);
      m = schedule.max_update == GRETA_MAX_NONE ? 0.0 : kept ? m : std::max(m, highest);
      for (int32_t key : tile) {
        const auto j = static_cast<size_t>(key - row.lo);
        const auto found = dumped.find({token, head, key});
        CHECK(found != dumped.end(), "key %d of token %d, head %d has no weight", key, token, head);
        if (found == dumped.end()) return;
        const double x = std::exp(row.s[j] - m) * p_scale, p = found->second.p;
        const double ee = row.ds[j] + most_ds + u * (2.0 * std::fabs(row.s[j] - m) + 2.0 * std::fabs(m) + 8.0);
        CHECK(std::fabs(found->second.m - m) <= most_ds + u * std::fabs(m), "running max %.9g, true %.9g",
              found->second.m, m);
        const double low = rounded(schedule.p_dtype, x * (1.0 - ee)), high = rounded(schedule.p_dtype, x * (1.0 + ee));
        CHECK(low <= p && p <= high, "P %.9g of key %d, expected %.9g .. %.9g (x %.9g)", p, key, low, high, x);
        Share& count = shares[schedule.p_dtype];
        ++count.all;
        if (low != high) ++count.undecided;
        dumped.erase(found);
      }
    }
  }
}

void run(const Case& c, std::mt19937& rng) {
  Setup setup(c, rng, 1);
  if (setup.session == nullptr) return;
  Bytes k, v;
  for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
    dumped.clear();
    setup.attend(phase);
    for (int32_t i = 0; i < c.n_seqs(); ++i) {
      setup.read(i, k, v);
      const Contents cache(c, k, v);
      for (int32_t query = 0; query < c.q_len[static_cast<size_t>(i)]; ++query) {
        const int32_t token = setup.cu_q[static_cast<size_t>(i)] + query;
        for (int32_t head = 0; head < c.heads; ++head) {
          const auto t = static_cast<size_t>(token), h = static_cast<size_t>(head);
          compare_row(c, c.schedule[phase], i, token, head,
                      row_of(c, i, c.hi(i, query), head, setup.query(t, h), cache));
        }
      }
    }
    CHECK(dumped.empty(), "%zu weights of keys that no row sees", dumped.size());
    CHECK(twice == 0, "%ld weights were made twice", twice);
  }
}

}  // namespace

void greta::dump_weights(int32_t token, int32_t head, int32_t first, int32_t lo, int32_t hi, const float* p,
                         float m) noexcept {
  for (int32_t j = lo; j < hi; ++j) {
    const Weight weight{static_cast<double>(p[j]), static_cast<double>(m)};
    if (!dumped.insert({{token, head, first + j}, weight}).second) ++twice;
  }
}

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 150;
  const char* names[] = {"f32", "bf16", "f16", "fp8_e4m3fn", "fp8_e4m3fnuz"};
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
    setenv("GRETA_CPU_ISA", isa->name, 1);
    std::mt19937 rng(2);
    for (Share& share : shares) share = {};
    for (int round = 0; round < rounds; ++round) {
      Case c = random_case(rng);
      c.q_size = 0.1f; /* scores of the size of trained models' would leave most of f16's last bits undecided */
      const int failures = check::failures;
      run(c, rng);
      if (check::failures != failures) std::fprintf(stderr, "%s, round %d\n", isa->name, round);
    }
    for (int32_t type = GRETA_F32; type <= GRETA_FP8_E4M3FNUZ; ++type) {
      const Share& share = shares[type];
      const double percent = 100.0 * static_cast<double>(share.undecided) / static_cast<double>(share.all);
      std::printf("P %s in %s: %.3f %% of %ld could round either way\n", isa->name, names[type], percent, share.all);
      CHECK(share.all > 1000, "%s: %ld weights", names[type], share.all);
      /* a type as fine as the error of a score decides nothing: f32 is held to the interval only */
      CHECK(type == GRETA_F32 || percent < 1.0, "%s: %.3f %% undecided", names[type], percent);
    }
  }
  return check::finish("P");
}
