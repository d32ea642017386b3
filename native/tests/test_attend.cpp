/* Every kernel of every instruction set against a plain double reference over what lies in the cache: types, scales,
 * page sizes with permuted tables, ragged batches, left padding, GQA ratios, windows, soft caps, sinks, biases, every
 * field of the schedule, lengths around tile boundaries, unused rows full of NaN. Prints how much of the bound the
 * worst element used. */
#include <cstdlib>
#include <string>

#include "isa.h"
#include "reference.h"

namespace {

Tally tally;

void run(const Case& c, std::mt19937& rng) {
  Setup setup(c, rng, 2);
  if (setup.session == nullptr) return;
  Bytes k, v;
  for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
    setup.attend(phase);
    for (int32_t i = 0; i < c.n_seqs(); ++i) {
      setup.read(i, k, v);
      const Contents cache(c, k, v);
      for (int32_t query = 0; query < c.q_len[static_cast<size_t>(i)]; ++query) {
        const auto token = static_cast<size_t>(setup.cu_q[static_cast<size_t>(i)] + query);
        for (int32_t head = 0; head < c.heads; ++head) {
          const auto h = static_cast<size_t>(head);
          const Row row = row_of(c, i, c.hi(i, query), head, setup.query(token, h), cache);
          judge(c, expected_of(c, row, c.schedule[phase]), setup.output(token, h),
                setup.lse[token * static_cast<size_t>(c.heads) + h], tally);
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
    tally = {};
    for (int round = 0; round < rounds; ++round) {
      const int failures = check::failures;
      const Case c = random_case(rng);
      run(c, rng);
      if (check::failures != failures) std::fprintf(stderr, "%s, round %d\n", isa->name, round);
    }
    std::printf("attend %s: worst of %ld elements at %.3f of its bound\n", isa->name, tally.elements, tally.worst);
  }
  return check::finish("attend");
}
