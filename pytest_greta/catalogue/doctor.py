"""What ``greta doctor`` says. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # headings and labels
    "doctor.compilers": ("Compilers", "Compiladores"),
    "doctor.libraries": ("Attention libraries", "Bibliotecas de atención"),
    "doctor.drivers": ("Drivers and GPUs", "Drivers y GPU"),
    "doctor.masks": ("Device masks", "Máscaras de dispositivos"),
    "doctor.extras": ("Extras", "Extras instalables"),
    "doctor.cache": ("Models", "Modelos"),
    "doctor.missing": ("Missing", "Falta"),
    "doctor.not_run": ("Not run", "No ejecutado"),
    "doctor.cores": ("cores: {count}", "núcleos: {count}"),
    "doctor.none": ("none", "no hay"),
    "doctor.not_installed": ("not installed", "no instalado"),
    "doctor.unbuilt": ("not built", "no compilada"),
    "doctor.twin": ("faulty twin", "gemela defectuosa"),
    "doctor.no_twin": ("no faulty twin", "sin gemela defectuosa"),
    "doctor.count": ("devices: {count}", "dispositivos: {count}"),
    "doctor.unset": ("not set", "sin definir"),
    "doctor.hides": ("hides every device", "oculta todos los dispositivos"),
    "doctor.unusable": ("not for this user", "no para este usuario"),
    "doctor.version_untold": ("version not told", "no dice la versión"),
    "doctor.model_ready": ("ready", "listo"),
    "doctor.model_absent": ("not pulled", "sin descargar"),
    "doctor.model_wrong": ("wrong checksum", "suma de comprobación incorrecta"),
    # what a library did instead of answering
    "doctor.hung": (
        "no answer within {seconds} s: the process that asked was ended",
        "sin respuesta en {seconds} s: se terminó el proceso que preguntaba",
    ),
    "doctor.crashed": ("ended by signal {signal}", "terminó por la señal {signal}"),
    "doctor.exited": (
        "ended its process with exit code {code}: {words}",
        "terminó su proceso con código de salida {code}: {words}",
    ),
    # what is missing, and what to do
    "doctor.not_built": ("library {library} is not built", "la biblioteca {library} no está compilada"),
    "doctor.not_built_nor_can": (
        "library {library} is not built, and no compiler for it is here",
        "la biblioteca {library} no está compilada, y aquí no hay compilador para ella",
    ),
    "doctor.not_built_without": (
        "library {library} is not built, and what its compiler needs is not here: {parts}",
        "la biblioteca {library} no está compilada, y aquí falta lo que su compilador necesita: {parts}",
    ),
    "doctor.hip_compiler": (
        "install ROCm (amdclang++), or on Debian: apt-get install clang-19 lld-19 clang-tools-19; then {build}",
        "instale ROCm (amdclang++) o, en Debian: apt-get install clang-19 lld-19 clang-tools-19; después {build}",
    ),
    "doctor.cuda_compiler": (
        "install NVIDIA's CUDA toolkit (nvcc); then {build}",
        "instale el CUDA toolkit de NVIDIA (nvcc); después {build}",
    ),
    "doctor.host_compiler": ("install g++; then {build}", "instale g++; después {build}"),
    "doctor.fails": ("library {library} fails: {reason}", "la biblioteca {library} falla: {reason}"),
    "doctor.fails_mend": (
        "its file is {path}; build it again for this machine, and look at the driver it talks to",
        "su archivo es {path}; compílela de nuevo para esta máquina y revise el driver con el que habla",
    ),
    "doctor.no_gpu": (
        "no GPU driver: neither /dev/kfd (AMD) nor /proc/driver/nvidia/version (NVIDIA)",
        "ningún driver de GPU: ni /dev/kfd (AMD) ni /proc/driver/nvidia/version (NVIDIA)",
    ),
    "doctor.no_gpu_mend": (
        "backends cpu and hip-emulated need none; cases for a device are counted as not run",
        "los backends cpu y hip-emulated no lo necesitan; los casos para un dispositivo cuentan como no ejecutados",
    ),
    "doctor.no_kfd": (
        "the AMD driver is loaded, but this user may not read and write /dev/kfd",
        "el driver de AMD está cargado, pero este usuario no puede leer y escribir /dev/kfd",
    ),
    "doctor.no_kfd_mend": (
        "sudo usermod -a -G render,video $USER, and log in again; in a container, pass /dev/kfd and /dev/dri",
        "sudo usermod -a -G render,video $USER, y vuelva a iniciar sesión; en un contenedor, pase /dev/kfd y /dev/dri",
    ),
    "doctor.no_nvidiactl": (
        "the NVIDIA driver is loaded, but this user may not read and write /dev/nvidiactl",
        "el driver de NVIDIA está cargado, pero este usuario no puede leer y escribir /dev/nvidiactl",
    ),
    "doctor.no_nvidiactl_mend": (
        "in a container, give it the GPUs (--gpus all)",
        "en un contenedor, dele las GPU (--gpus all)",
    ),
    "doctor.no_device": (
        "library {library} is built and finds no device: {reason}",
        "la biblioteca {library} está compilada y no encuentra un dispositivo: {reason}",
    ),
    "doctor.no_device_mend": (
        "look at drivers and masks above; its cases are counted as not run",
        "revise drivers y máscaras arriba; sus casos cuentan como no ejecutados",
    ),
    "doctor.hides_all": (
        "{name}={value!r} hides every device",
        "{name}={value!r} oculta todos los dispositivos",
    ),
    "doctor.two_masks": (
        "HIP reads CUDA_VISIBLE_DEVICES too, so that with another mask beside it the wrong device or none may be left",
        "HIP también lee CUDA_VISIBLE_DEVICES: con otra máscara al lado puede quedar otro dispositivo o ninguno",
    ),
    "doctor.no_extra": (
        "of extra {extra} there is no {packages}; {costs}",
        "del extra {extra} no hay {packages}; {costs}",
    ),
    "doctor.without_gguf": ("without it no GGUF model is read", "sin él no se lee ningún modelo GGUF"),
    "doctor.without_torch": (
        "without it torch's kernels and functions over its tensors are not run",
        "sin él no se ejecutan los núcleos de torch ni las funciones sobre sus tensores",
    ),
    "doctor.without_transformers": (
        "without it no model of transformers is run",
        "sin él no se ejecuta ningún modelo de transformers",
    ),
    "doctor.without_llamacpp": (
        "without it no model is run by llama.cpp",
        "sin él llama.cpp no ejecuta ningún modelo",
    ),
    "doctor.no_model": (
        "model {name} is not in the cache: cases with it are not run",
        "el modelo {name} no está en la caché: los casos con él no se ejecutan",
    ),
    "doctor.wrong_model": (
        "model {name} in the cache has another checksum than the published one",
        "el modelo {name} de la caché tiene otra suma de comprobación que la publicada",
    ),
    "doctor.nothing_missing": ("nothing", "nada"),
    # what no machine of ours has shown
    "doctor.never_run": (
        "on AMD hardware nothing of pytest-greta was run so far, on NVIDIA nothing yet; nor was benchmarks/gpu.py, "
        "which checks and times on a device all that needs one. Its HIP kernels ran lane by lane on the CPU (backend "
        "hip-emulated), which shows indexing, masks and barriers, not that an MI300X runs them correctly or fast",
        "en hardware AMD no se ejecutó nada de pytest-greta hasta ahora, en NVIDIA nada todavía; tampoco "
        "benchmarks/gpu.py, que comprueba y mide en un dispositivo todo lo que necesita uno. Sus kernels HIP se "
        "ejecutaron carril por carril en la CPU (backend hip-emulated), lo que muestra índices, máscaras y barreras, "
        "no que una MI300X los ejecute bien ni rápido",
    ),
    "doctor.asked_apart": (
        "libraries and devices were asked in processes of their own; no GPU was initialised in this one",
        "a las bibliotecas y los dispositivos se les preguntó en procesos aparte; en este no se inicializó ninguna GPU",
    ),
}
