/* greta_attn.h as C11. */
#include "header_table.h"

_Static_assert(GRETA_ABI_VERSION == 1, "a new version is a new contract: say so in the changelog");

int main(void) {
  print_table();
  return 0;
}
