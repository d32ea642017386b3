/* Every kernel of every instruction set against a plain double reference over what lies in the cache: types, scales,
 * page sizes with permuted tables, ragged batches, left padding, GQA ratios, windows, soft caps, sinks, biases, every
 * field of the schedule, lengths around tile boundaries, unused rows full of NaN. Prints how much of the bound the
 * worst element used. */
#include <cstdlib>
#include <string>

#include "isa.h"
#include "reference.h"

namespace {

double worst_share = 0.0;

/* Both bounds, attention in the ENV form. */
void compare_row(const Case& c, const Row& row, const unsigned char* out, float lse, const greta_schedule& schedule) {
  const auto value = [&](int32_t i) { return decode(c.act, out + static_cast<size_t>(i) * size_of(c.act)); };
  const double m = row.highest();
  if (m == -static_cast<double>(INFINITY))
    CHECK(lse == -INFINITY, "lse of an empty row is %g", static_cast<double>(lse));
  if (row.n() == 0) {
    for (int32_t i = 0; i < c.dv; ++i) CHECK(value(i) == 0.0, "out of an empty row is %g", value(i));
  }
  if (m == -static_cast<double>(INFINITY)) return;

  const auto n = static_cast<double>(row.n() + 1); /* the sink is a key */
  const double tiles = std::ceil(n / schedule.tile) + schedule.splits;
  const auto eps_of = [&](double s, double ds) {
    const double rescale = 2.0 * std::max(std::fabs(m), std::fabs(s)) + 4.0;
    return ds + u * (2.0 * std::fabs(s - m) + rescale * (1.0 + c_sqrt * std::sqrt(tiles)));
  };
  const double sink_weight = std::exp(row.sink - m);
  double l = sink_weight;
  for (double s : row.s) l += std::exp(s - m);
  std::vector<double> p, eps;
  double mean_eps = sink_weight == 0.0 ? 0.0 : sink_weight / l * eps_of(row.sink, 0.0);
  const double sink_spread = mean_eps;
  for (size_t j = 0; j < row.n(); ++j) {
    p.push_back(std::exp(row.s[j] - m) / l);
    eps.push_back(eps_of(row.s[j], row.ds[j]));
    mean_eps += p[j] * eps[j];
  }
  const double true_lse = m + std::log(l);
  const double lse_bound = mean_eps + c_sqrt * std::sqrt(n) * u + 2.0 * u * std::fabs(true_lse) + 4.0 * u;
  const double lse_share = std::fabs(static_cast<double>(lse) - true_lse) / lse_bound;
  CHECK(lse_share <= 1.0, "lse %.9g, true %.9g, bound %g", static_cast<double>(lse), true_lse, lse_bound);
  worst_share = std::max(worst_share, lse_share);

  const double p_scale = schedule.p_scale == 0.0f ? 1.0 : static_cast<double>(schedule.p_scale);
  /* with m = 0 a weight is exp(s), so what is lost below its type's range counts in that measure */
  const double measure = p_scale * l * (schedule.max_update == GRETA_MAX_NONE ? std::exp(m) : 1.0);
  const double u_p = unit(schedule.p_dtype), lost = half_subnormal(schedule.p_dtype) / measure;
  const double u_act = unit(c.act), tiny = half_subnormal(c.act);
  for (int32_t i = 0; i < c.dv; ++i) {
    double o = 0.0, size = 0.0, envelope = 0.0;
    const auto v = [&](size_t j) { return row.v[j * static_cast<size_t>(c.dv) + static_cast<size_t>(i)]; };
    for (size_t j = 0; j < row.n(); ++j) o += p[j] * v(j);
    double spread = sink_spread * std::fabs(o);
    for (size_t j = 0; j < row.n(); ++j) {
      size += p[j] * std::fabs(v(j));
      spread += p[j] * eps[j] * std::fabs(v(j) - o);
      envelope += std::max(u_p * p[j], std::min(p[j], lost)) * std::fabs(v(j));
    }
    const double bound = spread + 4.0 * u * std::fabs(o) + c_sqrt * std::sqrt(n) * u * (size + std::fabs(o)) + envelope;
    const double rounding = std::max(u_act * std::fabs(value(i)), tiny);
    const double error = std::max(0.0, std::fabs(value(i) - o) - rounding);
    CHECK(error <= bound, "out %.9g, true %.9g, bound %g", value(i), o, bound);
    if (!(error <= bound)) return;
    worst_share = std::max(worst_share, error / bound);
  }
}

void run(const Case& c, std::mt19937& rng) {
  Setup setup(c, rng, 2);
  if (setup.session == nullptr) return;
  Bytes k, v;
  for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
    setup.attend(phase);
    for (int32_t i = 0; i < n_seqs; ++i) {
      setup.read(i, k, v);
      for (int32_t query = 0; query < c.q_len[i]; ++query) {
        const auto token = static_cast<size_t>(setup.cu_q[static_cast<size_t>(i)] + query);
        for (int32_t head = 0; head < c.heads; ++head) {
          const auto h = static_cast<size_t>(head);
          const Row row = row_of(c, i, query, head, setup.query(token, h), k, v);
          compare_row(c, row, setup.output(token, h), setup.lse[token * static_cast<size_t>(c.heads) + h],
                      c.schedule[phase]);
        }
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 150;
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
    setenv("GRETA_CPU_ISA", isa->name, 1);
    std::mt19937 rng(1);
    worst_share = 0.0;
    for (int round = 0; round < rounds; ++round) {
      const int failures = check::failures;
      const Case c = random_case(rng);
      run(c, rng);
      if (check::failures != failures) std::fprintf(stderr, "%s, round %d\n", isa->name, round);
    }
    std::printf("attend %s: worst element at %.3f of its bound\n", isa->name, worst_share);
  }
  return check::finish("attend");
}
