/* What the faulty twin remembers of a session ends with it; in the shipped library there is nothing. */
#pragma once

struct greta_session;

namespace greta {

#ifdef GRETA_FAULTS
/* Another session may come to lie at the same address. */
void session_closed(const greta_session* session);
#else
namespace {
inline void session_closed(const greta_session*) {}
}  // namespace
#endif

}  // namespace greta
