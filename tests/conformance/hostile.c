/* The skeleton's library, which misbehaves in a way of its own at each of these calls and nowhere else. */
#define _GNU_SOURCE
#define greta_open right_open
#define greta_attend right_attend
#define greta_last_error unused_last_error /* not exported: no row of the table */
#include "mine.c"
#undef greta_open
#undef greta_attend

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

greta_status greta_open(const greta_config *c, greta_session **session);
greta_status greta_attend(greta_session *s, int32_t layer, int32_t phase, const greta_batch *b, const greta_tensor *q,
                          const greta_tensor *k, const greta_tensor *v, const greta_tensor *out,
                          const greta_tensor *lse);

static void fake_an_end(void) {
  const char *record = "{\"key\": \"0\", \"end\": {\"kind\": \"ok\", \"status\": \"GRETA_OK\"}}\n";
  for (int fd = 0; fd < 64; ++fd)
    if (write(fd, record, strlen(record)) < 0) continue;
  exit(0);
}

greta_status greta_open(const greta_config *c, greta_session **session) {
  if (c == NULL) exit(0);
  if (session == NULL) _exit(0);
  if (c->struct_size == 0) fake_an_end();
  if (c->abi == 2) _exit(3);
  if (c->n_layers == 0) abort();
  if (c->n_heads == -1)
    for (volatile int spin = 1; spin;) continue;
  if (c->n_kv_heads == 0) pause();
  if (c->n_kv_heads == 3) return GRETA_OK; /* takes what it should refuse */
  if (c->head_dim_qk == 0) fork();         /* both go on */
  if (c->head_dim_v == -16 && fork() == 0)
    for (;;) pause(); /* stays behind */
  if (c->max_seqs == 0 && fork() == 0) {
    if (setsid() < 0 || fork() == 0) _exit(0);
    for (;;) pause(); /* a daemon */
  }
  if (c->max_len == -1) {
    if (fork() == 0) _exit(0);
    wait(NULL);
  }
  if (c->act_dtype == 99) puts("hello from open");
  if (c->kv_dtype == 99 && write(1, "raw", 3) < 0) return GRETA_INTERNAL;
  if (c->memory == 99) return (greta_status)99;
  if (c->layers == NULL) ((greta_config *)c)->n_heads = 1; /* an output by mistake */
  return right_open(c, session);
}

static volatile float sink;

greta_status greta_attend(greta_session *s, int32_t layer, int32_t phase, const greta_batch *b, const greta_tensor *q,
                          const greta_tensor *k, const greta_tensor *v, const greta_tensor *out,
                          const greta_tensor *lse) {
  if (s == NULL || b == NULL || q == NULL || k == NULL || v == NULL || out == NULL || out->token_stride != 64 ||
      lse == NULL || b->n_seqs < 1)
    return right_attend(s, layer, phase, b, q, k, v, out, lse);
  const int queries = b->n_tokens, rows = b->kv_len[0];
  float *o = out->data, *sums = lse->data;
  if (b->n_seqs == 2 && phase == GRETA_DECODE) return GRETA_OK; /* leaves all unwritten */
  if (phase == GRETA_DECODE && rows == 1) kill(getpid(), SIGSEGV);
  if (phase == GRETA_DECODE && rows == 48) sink = ((float *)q->data)[64]; /* behind q */
  const greta_status status = right_attend(s, layer, phase, b, q, k, v, out, lse);
  if (b->n_seqs == 2) ((int32_t *)b->kv_len)[1] = 3;              /* scribbles over an input */
  if (queries == 48) o[48 * 64] = 1.0f;                           /* behind out, which ends at its guard page */
  if (phase == GRETA_PREFILL && queries == 3) o[-2] = 1.0f;       /* before out */
  if (phase == GRETA_DECODE && queries == 3) sums[12 + 1] = 1.0f; /* behind lse, in its slack */
  if (queries == 5 && rows == 3) o[0] = 1.0f;                     /* a query that sees nothing */
  if (queries == 7) o[3 * 64] = NAN;
  return status;
}
