/* The kernels' code objects, as the compiler of the device left them, inside this library: those that the faulty twin
 * shares, and `combine`. */
#define GRETA_EMBED(name, file)                                                                       \
  asm(".section .rodata\n.balign 4096\n.globl " name "\n.hidden " name "\n" name ":\n.incbin \"" file \
      "\"\n.section .text\n")

GRETA_EMBED("greta_kernels_image", GRETA_KERNELS_IMAGE);
GRETA_EMBED("greta_combine_image", GRETA_COMBINE_IMAGE);
