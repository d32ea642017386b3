# The HIP library for devices: libgreta_attn_hip by GRETA_HIP, and the same kernels for NVIDIA's, libgreta_attn_cuda, by
# GRETA_CUDA. A compiler for the device makes the code objects of all architectures into one file, which the library
# carries. It finds the device's runtime when it is used, so that linking and loading it need nothing of ROCm or CUDA.

option(GRETA_HIP "Build the attention library for AMD's devices: backend hip" OFF)
option(GRETA_CUDA "Build the attention library for NVIDIA's devices: backend cuda" OFF)
set(GRETA_HIP_ARCHITECTURES "gfx942;gfx90a" CACHE STRING "What GRETA_HIP compiles for")
set(GRETA_CUDA_ARCHITECTURES "80;90" CACHE STRING "What GRETA_CUDA compiles for; newer devices compile the last one's PTX")

# The twin shares `kernels` and has a `combine` of its own.
set(GRETA_DEVICE_IMAGES kernels combine combine_faulty)
set(GRETA_DEVICE_SOURCE_kernels kernels.cpp)
set(GRETA_DEVICE_SOURCE_combine kernel_combine.cpp)
set(GRETA_DEVICE_SOURCE_combine_faulty kernel_combine.cpp)
set(GRETA_DEVICE_FLAGS_combine_faulty -DGRETA_FAULTS=1)
set(GRETA_DEVICE_FLAGS -O3 -std=c++17)
foreach(folder src/hip include src/cpu src/faults)
  list(APPEND GRETA_DEVICE_FLAGS -I${CMAKE_CURRENT_SOURCE_DIR}/${folder})
endforeach()

# out: compiled from the source of `image` by the command that follows; what it includes is asked of the compiler.
function(greta_device_compile out image)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/src/hip/${GRETA_DEVICE_SOURCE_${image}})
  add_custom_command(OUTPUT ${out}
    COMMAND ${ARGN} ${GRETA_DEVICE_FLAGS} ${GRETA_DEVICE_FLAGS_${image}} ${source} -o ${out} -MD -MF ${out}.d
    DEPENDS ${source} DEPFILE ${out}.d COMMENT "Compiling ${out}" VERBATIM)
endfunction()

# libgreta_attn_<name> and its twin, over <name>_<image>.image in the build folder.
function(greta_device_libraries name architectures)
  list(TRANSFORM GRETA_DEVICE_IMAGES REPLACE "(.+)" "${CMAKE_CURRENT_BINARY_DIR}/${name}_\\1.image" OUTPUT_VARIABLE images)
  add_custom_target(greta_${name}_images DEPENDS ${images})
  string(REPLACE ";" ", " said "${architectures}")
  foreach(ending "" _faulty)
    set(library greta_attn_${name}${ending})
    set(embedding ${CMAKE_CURRENT_BINARY_DIR}/${library}_image.cpp) # a copy each, with dependencies of its own
    configure_file(src/hip/image.cpp ${embedding} COPYONLY)
    set_source_files_properties(${embedding} PROPERTIES OBJECT_DEPENDS "${images}")
    greta_hip_library(${library} ${GRETA_HIP_HOST} src/hip/runtime_driver.cpp ${embedding})
    add_dependencies(${library} greta_${name}_images)
    target_compile_definitions(${library} PRIVATE GRETA_ARCHITECTURES="${said}"
      GRETA_KERNELS_IMAGE="${CMAKE_CURRENT_BINARY_DIR}/${name}_kernels.image"
      GRETA_COMBINE_IMAGE="${CMAKE_CURRENT_BINARY_DIR}/${name}_combine${ending}.image")
    target_link_libraries(${library} PRIVATE ${CMAKE_DL_LIBS})
  endforeach()
  target_sources(greta_attn_${name}_faulty PRIVATE ${GRETA_HIP_FAULTS})
  target_compile_definitions(greta_attn_${name}_faulty PRIVATE GRETA_FAULTS=1)
endfunction()

if(GRETA_HIP)
  find_program(GRETA_HIP_COMPILER NAMES amdclang++ clang++-19 DOC "clang that compiles for GRETA_HIP_ARCHITECTURES"
    HINTS $ENV{ROCM_PATH}/llvm/bin $ENV{ROCM_PATH}/bin PATHS /opt/rocm/llvm/bin /opt/rocm/bin)
  if(NOT GRETA_HIP_COMPILER)
    message(FATAL_ERROR "GRETA_HIP needs amdclang++ (of ROCm) or clang++-19 (Debian: clang-19 clang-tools-19 lld-19): "
      "install one, or name a clang, -DGRETA_HIP_COMPILER=PATH")
  endif()
  get_filename_component(GRETA_HIP_BIN ${GRETA_HIP_COMPILER} REALPATH)
  get_filename_component(GRETA_HIP_BIN ${GRETA_HIP_BIN} DIRECTORY)
  find_program(GRETA_HIP_BUNDLER NAMES clang-offload-bundler clang-offload-bundler-19 HINTS ${GRETA_HIP_BIN}
    DOC "Makes one file of the code objects")
  if(NOT GRETA_HIP_BUNDLER)
    message(FATAL_ERROR "GRETA_HIP needs clang-offload-bundler, which belongs to ${GRETA_HIP_COMPILER} "
      "(Debian: clang-tools-19): install it, or name it, -DGRETA_HIP_BUNDLER=PATH")
  endif()
  # no headers and no device libraries: the kernels bring what they need
  set(GRETA_HIP_COMMAND ${GRETA_HIP_COMPILER} -x hip -nogpuinc -nogpulib --offload-device-only --no-gpu-bundle-output -c)
  foreach(architecture IN LISTS GRETA_HIP_ARCHITECTURES)
    set(empty ${CMAKE_CURRENT_BINARY_DIR}/empty.hip)
    file(WRITE ${empty} "")
    execute_process(COMMAND ${GRETA_HIP_COMMAND} --offload-arch=${architecture} ${empty} -o ${empty}.o
      RESULT_VARIABLE result ERROR_VARIABLE words OUTPUT_VARIABLE words)
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "${GRETA_HIP_COMPILER} does not compile for ${architecture}: another compiler by "
        "-DGRETA_HIP_COMPILER=PATH, other devices by -DGRETA_HIP_ARCHITECTURES=LIST. It said:\n${words}")
    endif()
  endforeach()
  foreach(image IN LISTS GRETA_DEVICE_IMAGES)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/hip_${image}.image)
    set(targets host-x86_64-unknown-linux-gnu)
    set(inputs -input=/dev/null)
    set(objects "")
    foreach(architecture IN LISTS GRETA_HIP_ARCHITECTURES)
      set(object ${CMAKE_CURRENT_BINARY_DIR}/hip_${image}_${architecture}.o)
      greta_device_compile(${object} ${image} ${GRETA_HIP_COMMAND} --offload-arch=${architecture} -Wall -Wextra)
      string(APPEND targets ",hipv4-amdgcn-amd-amdhsa--${architecture}")
      list(APPEND inputs -input=${object})
      list(APPEND objects ${object})
    endforeach()
    add_custom_command(OUTPUT ${out}
      COMMAND ${GRETA_HIP_BUNDLER} -type=o -bundle-align=4096 -targets=${targets} ${inputs} -output=${out}
      DEPENDS ${objects} VERBATIM)
  endforeach()
  greta_device_libraries(hip "${GRETA_HIP_ARCHITECTURES}")
endif()

if(GRETA_CUDA)
  find_program(GRETA_CUDA_COMPILER NAMES nvcc HINTS $ENV{CUDA_HOME}/bin PATHS /usr/local/cuda/bin DOC "nvcc")
  if(NOT GRETA_CUDA_COMPILER)
    message(FATAL_ERROR "GRETA_CUDA needs nvcc: install the CUDA toolkit, or name it, -DGRETA_CUDA_COMPILER=PATH")
  endif()
  set(GRETA_CUDA_COMMAND ${GRETA_CUDA_COMPILER} -x cu --fatbin)
  foreach(architecture IN LISTS GRETA_CUDA_ARCHITECTURES)
    list(APPEND GRETA_CUDA_COMMAND -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  list(GET GRETA_CUDA_ARCHITECTURES -1 last)
  list(APPEND GRETA_CUDA_COMMAND -gencode arch=compute_${last},code=compute_${last})
  foreach(image IN LISTS GRETA_DEVICE_IMAGES)
    greta_device_compile(${CMAKE_CURRENT_BINARY_DIR}/cuda_${image}.image ${image} ${GRETA_CUDA_COMMAND})
  endforeach()
  list(TRANSFORM GRETA_CUDA_ARCHITECTURES PREPEND sm_ OUTPUT_VARIABLE architectures)
  greta_device_libraries(cuda "${architectures}")
  foreach(library greta_attn_cuda greta_attn_cuda_faulty)
    target_compile_definitions(${library} PRIVATE GRETA_CUDA=1)
  endforeach()
endif()
