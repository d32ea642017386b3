#include "session.h"

#include "errors.h"
#include "fault_sessions.h"

namespace greta {

void require_session(const greta_session* session) {
  if (session == nullptr) fail(GRETA_INVALID_ARGUMENT, "session is NULL");
}

void require_layer(const greta_session& session, int32_t layer) {
  const int32_t n = session.config.n_layers();
  if (layer < 0 || layer >= n) fail(GRETA_INVALID_ARGUMENT, "layer is %d, expected 0 .. %d", layer, n - 1);
}

void require_phase(int32_t phase) {
  if (phase != GRETA_PREFILL && phase != GRETA_DECODE) {
    fail(GRETA_INVALID_ARGUMENT, "phase is %d, expected 0 (prefill) or 1 (decode)", phase);
  }
}

void require_seq(const greta_session& session, int32_t seq) {
  const int32_t n = session.config.max_seqs;
  if (seq < 0 || seq >= n) fail(GRETA_INVALID_ARGUMENT, "seq is %d, expected 0 .. %d", seq, n - 1);
}

}  // namespace greta

greta_status greta_open(const greta_config* config, greta_session** session) {
  return greta::guarded([&] {
    if (session == nullptr) greta::fail(GRETA_INVALID_ARGUMENT, "session is NULL");
    *session = nullptr;
    greta::Config checked = greta::checked_config(config);
    const greta::Isa* isa = &greta::chosen_isa();
    greta::Cache cache(checked);
    *session = new greta_session{std::move(checked), std::move(cache), {}, isa, {}, {}, {}};
  });
}

void greta_close(greta_session* session) {
  greta::session_closed(session);
  delete session;
}

greta_status greta_sync(greta_session* session) {
  return greta::guarded([&] { greta::require_session(session); }); /* every call is finished when it returns */
}

greta_status greta_device_count(int32_t* count) {
  return greta::guarded([&] {
    if (count == nullptr) greta::fail(GRETA_INVALID_ARGUMENT, "count is NULL");
    *count = 1;
  });
}

int32_t greta_abi_version(void) {
  return GRETA_ABI_VERSION;
}
