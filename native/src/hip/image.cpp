/* The kernels' code objects, as the compiler of the device left them, inside this library. */
asm(R"(
.section .rodata
.balign 4096
.globl greta_kernels_image
.hidden greta_kernels_image
greta_kernels_image:
.incbin ")" GRETA_IMAGE R"("
.section .text
)");
