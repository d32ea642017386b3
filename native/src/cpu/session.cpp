#include "session.h"

#include "errors.h"
#include "fault_sessions.h"

namespace greta {

void require_session(const greta_session* session) {
  if (session == nullptr) fail(GRETA_INVALID_ARGUMENT, "session is NULL");
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
