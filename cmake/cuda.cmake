# The CUDA backend: each of backend_cuda/*.cu compiled by nvcc, whatever language flags the rest of the tree has. The CUDA
# runtime is linked statically and cuBLASLt is loaded when a backend is created, so the program starts on any machine.
#   UP_CUDA                 AUTO (where nvcc is found), ON, OFF
#   UP_CUDA_ARCHITECTURES   compute capabilities, e.g. "80;90"; the newest also as code for later ones
set(UP_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO (where nvcc is found), ON or OFF")
set_property(CACHE UP_CUDA PROPERTY STRINGS AUTO ON OFF)
set(UP_CUDA_ARCHITECTURES "80;90" CACHE STRING "Compute capabilities that the CUDA backend is compiled for")
find_program(UP_NVCC nvcc HINTS /usr/local/cuda/bin)
mark_as_advanced(UP_NVCC)
set(UP_CUDA_BUILT FALSE)
if(UP_CUDA STREQUAL "ON" AND NOT UP_NVCC)
  message(FATAL_ERROR "UP_CUDA is ON, but there is no nvcc")
endif()
if(UP_CUDA STREQUAL "OFF" OR NOT UP_NVCC)
  return()
endif()
get_filename_component(UP_CUDA_HOME ${UP_NVCC} REALPATH)
get_filename_component(UP_CUDA_HOME ${UP_CUDA_HOME}/../.. ABSOLUTE)
find_library(UP_CUDART cudart_static HINTS ${UP_CUDA_HOME} PATH_SUFFIXES lib64 targets/x86_64-linux/lib lib)
find_file(UP_CUBLASLT_H cublasLt.h HINTS ${UP_CUDA_HOME} PATH_SUFFIXES include targets/x86_64-linux/include)
mark_as_advanced(UP_CUDART UP_CUBLASLT_H)
if(NOT UP_CUDART OR NOT UP_CUBLASLT_H)
  if(UP_CUDA STREQUAL "ON")
    message(FATAL_ERROR "UP_CUDA is ON, but the toolkit of ${UP_NVCC} lacks cudart_static or cublasLt.h")
  endif()
  return()
endif()
set(UP_CUDA_BUILT TRUE)

set(UP_CUDA_CODE "")
foreach(architecture ${UP_CUDA_ARCHITECTURES})
  list(APPEND UP_CUDA_CODE -gencode arch=compute_${architecture},code=sm_${architecture})
  set(newest ${architecture})
endforeach()
list(APPEND UP_CUDA_CODE -gencode arch=compute_${newest},code=compute_${newest})
file(GLOB UP_CUDA_SOURCES CONFIGURE_DEPENDS backend_cuda/*.cu)
foreach(source ${UP_CUDA_SOURCES})
  get_filename_component(name ${source} NAME)
  set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${UP_NVCC} -x cu -std=c++17 -O3 ${UP_CUDA_CODE} -I${PROJECT_SOURCE_DIR} -I${PROJECT_SOURCE_DIR}/include
            -Xcompiler=-fPIC,-fvisibility=hidden,-fno-exceptions,-fno-threadsafe-statics,-Wall -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source}
    DEPFILE ${object}.d
    COMMENT "nvcc ${name}"
    VERBATIM)
  list(APPEND UP_CUDA_OBJECTS ${object})
endforeach()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
add_custom_target(up_cuda_objects DEPENDS ${UP_CUDA_OBJECTS}) # both libraries take them from there
set_source_files_properties(src/backends.c PROPERTIES COMPILE_DEFINITIONS UP_WITH_CUDA)
list(APPEND UP_KERNEL_OBJECTS ${UP_CUDA_OBJECTS})
list(APPEND UP_LINK ${UP_CUDART} ${CMAKE_DL_LIBS} rt)
list(APPEND UP_PC_LIBS ${UP_CUDART} -ldl -lrt)
