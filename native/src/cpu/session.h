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

}  // namespace greta
