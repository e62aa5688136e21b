# The CUDA backend on the host executor, not on a GPU: the very tests of the other backends, compiled with UP_TEST_CUDA and
# linked with backend_cuda/*.cu as the executor runs them. `fast` and `checked` as in README.md.
file(GLOB UP_CUDA_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/backend_cuda/*.cu)
set(UP_CUDA_PROGRAMS test_parity test_golden test_encoder test_step)
foreach(program ${UP_CUDA_PROGRAMS})
  add_library(${program}_cuda OBJECT ${PROJECT_SOURCE_DIR}/tests/${program}.c ${PROJECT_SOURCE_DIR}/src/backends.c
              ${PROJECT_SOURCE_DIR}/tests/cuda_lacks.c)
  target_compile_definitions(${program}_cuda PRIVATE UP_TEST_CUDA UP_WITH_CUDA)
  target_include_directories(${program}_cuda PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}
                             ${CUNIT_INCLUDE_DIRS})
endforeach()
foreach(mode ${UP_CUDA_HOST_MODES})
  up_cuda_host_objects(up_cuda_on_host_${mode} ${mode} ${UP_CUDA_SOURCES})
  foreach(program ${UP_CUDA_PROGRAMS})
    add_executable(${program}_cuda_${mode} $<TARGET_OBJECTS:${program}_cuda> $<TARGET_OBJECTS:up_cuda_on_host_${mode}>
                   $<TARGET_OBJECTS:up_test_support> $<TARGET_OBJECTS:up_test_cases>)
    target_link_libraries(${program}_cuda_${mode} PRIVATE up_cuda_host uniperceiver_static ${CUNIT_LINK_LIBRARIES} ${UP_LINK})
    set_target_properties(${program}_cuda_${mode} PROPERTIES LINKER_LANGUAGE CXX
                          RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  endforeach()
endforeach()

# The whole program, built the same way: train, eval and the rest with --backend cuda.
if(TARGET uniperceiver_cli)
  add_library(uniperceiver_cuda_host_objects OBJECT ${UP_CLI} ${PROJECT_SOURCE_DIR}/src/backends.c)
  target_compile_definitions(uniperceiver_cuda_host_objects PRIVATE UP_WITH_CUDA)
  target_include_directories(uniperceiver_cuda_host_objects PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
  add_executable(uniperceiver_cuda_host $<TARGET_OBJECTS:uniperceiver_cuda_host_objects>
                 $<TARGET_OBJECTS:up_cuda_on_host_fast>)
  target_link_libraries(uniperceiver_cuda_host PRIVATE up_cuda_host uniperceiver_static ${UP_LINK})
  set_target_properties(uniperceiver_cuda_host PROPERTIES LINKER_LANGUAGE CXX
                        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endif()

# up_cuda_host_test(NAME PROGRAM MODE "VARIABLE=VALUE;..." TEST...): some tests of a program, by their names.
function(up_cuda_host_test name program mode variables)
  if(NOT mode IN_LIST UP_CUDA_HOST_MODES)
    return()
  endif()
  add_test(NAME ${name} COMMAND ${program}_cuda_${mode} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS "host executor, not a GPU"
                       ENVIRONMENT "UP_SOURCE_DIR=${PROJECT_SOURCE_DIR};OMP_WAIT_POLICY=passive;${variables}")
endfunction()

set(UP_CUDA_OPERATIONS embed patch_embed linear gelu layernorm add_layernorm residual gather scatter l2norm attention logits xent
    sqnorm step adamw cast)
# A third of the cases of the other backends: scripts/cuda_host.sh has all of them, at several orders of blocks.
foreach(type f32 bf16 f16)
  up_cuda_host_test(cuda_parity_${type} test_parity fast "UP_CASE_DTYPE=${type};UP_CASES=100" ${UP_CUDA_OPERATIONS})
  up_cuda_host_test(cuda_golden_${type} test_golden fast "" cuda_${type})
endforeach()
up_cuda_host_test(cuda_parity_checked test_parity checked "UP_CASES=100" tables memory ${UP_CUDA_OPERATIONS})
up_cuda_host_test(cuda_parity_volta test_parity fast "UP_CASE_DTYPE=f16;UP_CASES=100;UP_CUDA_HOST_SM=70" linear attention patch_embed)
up_cuda_host_test(cuda_encoder test_encoder fast "")
up_cuda_host_test(cuda_step test_step fast "" "follows ref" "not finite" "temperature clamp")
up_cuda_host_test(cuda_step_checked test_step checked "" "temperature clamp")
if(TARGET uniperceiver_cuda_host)
  add_test(NAME cuda_train COMMAND bash ${UP_CUDA_HOST}/test_train.sh)
  set_tests_properties(cuda_train PROPERTIES LABELS "host executor, not a GPU" ENVIRONMENT
    "UP_SOURCE_DIR=${PROJECT_SOURCE_DIR};UP_BINARY=$<TARGET_FILE:uniperceiver_cuda_host>;OMP_WAIT_POLICY=passive")
endif()
