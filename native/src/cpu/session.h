#pragma once

#include "cache.h"
#include "config.h"
#include "counters.h"
#include "isa.h"

struct greta_session {
  greta::Config config;
  greta::Cache cache;
  greta::Counters counters;
  const greta::Isa* isa;
  greta::Scratch scratch;
  greta::Scratch partials;
  std::vector<greta::Sequence> seqs; /* of the running call */
};

namespace greta {

void require_session(const greta_session* session);
void require_layer(const greta_session& session, int32_t layer);
void require_phase(int32_t phase);
void require_seq(const greta_session& session, int32_t seq);

}  // namespace greta
