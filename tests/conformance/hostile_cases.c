/* The skeleton's library, which misbehaves in the decode of prompts of these lengths and in no other. */
#define _GNU_SOURCE
#define greta_attend right_attend
#include "mine.c"
#undef greta_attend

#include <unistd.h>

greta_status greta_attend(greta_session *s, int32_t layer, int32_t phase, const greta_batch *b, const greta_tensor *q,
                          const greta_tensor *k, const greta_tensor *v, const greta_tensor *out,
                          const greta_tensor *lse);

greta_status greta_attend(greta_session *s, int32_t layer, int32_t phase, const greta_batch *b, const greta_tensor *q,
                          const greta_tensor *k, const greta_tensor *v, const greta_tensor *out,
                          const greta_tensor *lse) {
  const greta_status status = right_attend(s, layer, phase, b, q, k, v, out, lse);
  if (phase != GRETA_DECODE) return status;
  switch (b->kv_len[0]) {
    case 11: exit(0);
    case 12: _exit(0);
    case 13:
      for (volatile int spin = 1; spin;) continue;
      break;
    case 14: fork(); break; /* both go on */
    case 15: *(float *)q->data = 1.0f; break;
    case 16: *(float *)k->data = 1.0f; break;
    case 17: ((int32_t *)b->kv_len)[0] = 5; break;
    case 9: ((float *)out->data)[-1] = 1.0f; break;
    case 10: ((float *)lse->data)[b->n_tokens * lse->token_stride] = 1.0f; break;
    case 19: ((float *)out->data)[b->n_tokens * out->token_stride] = 1.0f; break;
    case 18: ((float *)out->data)[0] = NAN; break;
    default: break;
  }
  return status;
}
