# The CUDA backend on a GPU, where this build has it: the programs of cuda_host/backend.cmake with the runtime of CUDA. Skipped,
# with the reason, where there is no GPU.
foreach(program test_parity test_golden test_encoder test_step)
  add_executable(${program}_gpu ${program}.c cuda_lacks.c $<TARGET_OBJECTS:up_test_support> $<TARGET_OBJECTS:up_test_cases>)
  target_compile_definitions(${program}_gpu PRIVATE UP_TEST_CUDA)
  target_include_directories(${program}_gpu PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
  target_link_libraries(${program}_gpu PRIVATE uniperceiver_static PkgConfig::CUNIT ${UP_LINK})
  set_target_properties(${program}_gpu PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endforeach()
function(up_gpu_test name program)
  add_test(NAME ${name} COMMAND ${program}_gpu ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS gpu SKIP_RETURN_CODE 77
                       ENVIRONMENT "UP_SOURCE_DIR=${PROJECT_SOURCE_DIR};OMP_WAIT_POLICY=passive")
endfunction()
up_gpu_test(gpu_parity test_parity)
up_gpu_test(gpu_golden test_golden cuda_f32 cuda_bf16 cuda_f16)
up_gpu_test(gpu_encoder test_encoder)
up_gpu_test(gpu_step test_step "follows ref" "not finite" "temperature clamp")

# Registers and spills of its kernels; fails where a hot one spills.
add_test(NAME cuda_compile COMMAND bash ${PROJECT_SOURCE_DIR}/scripts/cuda_compile.sh)
set_tests_properties(cuda_compile PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT "UP_CUDA_ARCHITECTURES=90")
