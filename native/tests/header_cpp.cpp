/* greta_attn.h as C++17. */
#include "header_table.h"

int main() {
  print_table();
}
