# The HIP library's kernels on the CPU, for tests: libgreta_attn_hip_emulated. hip_device.cmake: on a device.

option(GRETA_HIP_EMULATED "Build the HIP kernels for the CPU: backend hip-emulated" ON)
option(GRETA_EMULATED_RACES "Let the emulation watch each access to shared memory, for tests; needs GCC" OFF)

set(GRETA_HIP_HOST src/hip/calls.cpp src/hip/describe.cpp src/hip/hip_session.cpp src/hip/staging.cpp
  src/cpu/call_checks.cpp src/cpu/config.cpp src/cpu/errors.cpp)
set(GRETA_HIP_FAULTS src/hip/fault_spoil.cpp src/hip/fault_rows.cpp src/faults/faults.cpp src/faults/wrong.cpp)

# What every target here is compiled with.
function(greta_hip_options name)
  target_compile_features(${name} PRIVATE cxx_std_17)
  target_compile_options(${name} PRIVATE -Wall -Wextra -ffp-contract=off)
  target_include_directories(${name} PRIVATE src/hip include src/cpu src/faults)
  if(GRETA_WERROR)
    target_compile_options(${name} PRIVATE -Werror)
  endif()
  if(GRETA_VERSION)
    target_compile_definitions(${name} PRIVATE GRETA_VERSION="${GRETA_VERSION}")
  endif()
  set_target_properties(${name} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endfunction()

# A library of the given objects and sources.
function(greta_hip_library name)
  add_library(${name} SHARED ${ARGN})
  greta_hip_options(${name})
  target_link_options(${name} PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/exports.map -Wl,-z,nodelete)
  set_target_properties(${name} PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
  install(TARGETS ${name} LIBRARY DESTINATION _greta_native)
endfunction()

# `kernels`: objects for one wave width, which the twin shares. Its fault points lie in the host side and in `combine`.
function(greta_emulated_kernels name wave)
  add_library(${name} OBJECT src/hip/kernels.cpp src/hip/emulate/emulate.cpp src/hip/emulate/fence.cpp
    src/hip/emulate/runtime_emulated.cpp $<$<BOOL:${GRETA_EMULATED_RACES}>:src/hip/emulate/races.cpp>)
  greta_emulated(${name} ${wave})
endfunction()

function(greta_emulated name wave)
  greta_hip_options(${name})
  target_compile_definitions(${name} PRIVATE GRETA_EMULATED=1 GRETA_WAVE=${wave} ${ARGN})
  # -O1: these kernels are for tests, and more costs more time here than it saves there.
  target_compile_options(${name} PRIVATE -O1)
endfunction()

function(greta_emulated_library name host kernels wave)
  greta_hip_library(${name} $<TARGET_OBJECTS:${host}> $<TARGET_OBJECTS:${kernels}> src/hip/kernel_combine.cpp)
  greta_emulated(${name} ${wave} ${ARGN})
endfunction()

if(GRETA_HIP_EMULATED)
  if(GRETA_EMULATED_RACES) # compiled for that sanitizer, but not linked to it: races.cpp stands for it
    set_source_files_properties(src/hip/kernels.cpp src/hip/kernel_combine.cpp PROPERTIES COMPILE_OPTIONS -fsanitize=thread)
  endif()
  foreach(host greta_emulated_host greta_emulated_host_faulty) # does not depend on the wave's width
    add_library(${host} OBJECT ${GRETA_HIP_HOST})
    greta_emulated(${host} 64)
  endforeach()
  target_sources(greta_emulated_host_faulty PRIVATE ${GRETA_HIP_FAULTS})
  target_compile_definitions(greta_emulated_host_faulty PRIVATE GRETA_FAULTS=1)
  greta_emulated_kernels(greta_emulated_wave64 64)
  greta_emulated_kernels(greta_emulated_wave32 32)
  greta_emulated_library(greta_attn_hip_emulated greta_emulated_host greta_emulated_wave64 64)
  greta_emulated_library(greta_attn_hip_emulated_warp32 greta_emulated_host greta_emulated_wave32 32) # NVIDIA's
  greta_emulated_library(greta_attn_hip_emulated_faulty greta_emulated_host_faulty greta_emulated_wave64 64
    GRETA_FAULTS=1)
endif()

include(hip_device.cmake)
