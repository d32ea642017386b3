/* greta_faults.h: how the faulty twin is told what to do wrong. Private: only libgreta_attn_faulty exports these, only
 * `inject:` and `greta selftest` call them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GRETA_FAULTS_H
#define GRETA_FAULTS_H

#include "greta_attn.h"

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* cdef begin */
/* Plants one fault in this process, in place of the one before. -1 stands for all phases, layers, query heads and
 * positions (a position is the cache row of a query, kv_len - q_len + i). What magnitude means is the kind's affair.
 * Set it between calls, not during one. */
greta_status greta_fault_set(const char* kind, int32_t phase, int32_t layer, int32_t head, int32_t position,
                             double magnitude);
greta_status greta_fault_clear(void);
/* Attention calls since greta_fault_set of which the fault changed at least one byte: none means that there was nothing
 * to be found. */
int64_t greta_fault_fired(void);
/* cdef end */

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* GRETA_FAULTS_H */
