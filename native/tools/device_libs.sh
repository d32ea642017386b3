#!/usr/bin/env bash
# device_libs.sh FOLDER [BITCODE]: ROCm's device libraries with a file for gfx942, for a distribution that has none.
#
# For HIP kernels of your own that call device functions: --rocm-device-lib-path=FOLDER. Ours need no device library.
# BITCODE is where the distribution's files are; Debian's rocm-device-libs by default. The file says by one constant which
# instruction set it is for: 9400 in that of gfx940, 9402 in gfx942's.
set -euo pipefail
[[ $# -ge 1 ]] || { echo "usage: device_libs.sh FOLDER [BITCODE]" >&2; exit 2; }
folder=$1 bitcode=${2:-/usr/lib/$(uname -m)-linux-gnu/amdgcn/bitcode}
[[ -e $bitcode/oclc_isa_version_940.bc || -e $bitcode/oclc_isa_version_942.bc ]] ||
  { echo "device_libs.sh: $bitcode holds no oclc_isa_version_940.bc; install rocm-device-libs, or name its folder" >&2; exit 1; }
tool() { command -v "$1-19" || command -v "$1" || { echo "device_libs.sh: no $1; install llvm-19" >&2; exit 1; }; }
mkdir -p "$folder"
ln -sf "$(realpath "$bitcode")"/*.bc "$folder"
[[ ! -e $folder/oclc_isa_version_942.bc ]] || exit 0
dis=$(tool llvm-dis) as=$(tool llvm-as)
"$dis" -o - "$bitcode/oclc_isa_version_940.bc" | sed 's/i32 9400/i32 9402/' | "$as" -o "$folder/oclc_isa_version_942.bc"
