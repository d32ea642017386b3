"""PyTorch's attention kernels as backends: tensors, what each kernel rounds, and the calls. torch is imported inside
functions only; without it a case is "not run" and says which extra is missing."""

PREFIX = "torch:"
KERNELS = {
    "cpu": ("math", "flash"),
    "cuda": ("math", "flash", "efficient", "cudnn"),
    "rocm": ("math", "flash", "efficient"),
}
"""Those that a build of torch for the device has."""
NAMES = tuple(
    f"{PREFIX}{kernel}" + ("" if device == "cpu" else f"@{device}")
    for device, kernels in KERNELS.items()
    for kernel in kernels
)
