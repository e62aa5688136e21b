# Tests of what a user of the library gets: its symbols, its headers, an installation of it. Scripts, so they need no CUnit.
find_program(UP_CXX NAMES c++ g++ clang++)
mark_as_advanced(UP_CXX)

add_test(NAME symbols COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/check_symbols.sh
         $<TARGET_FILE:uniperceiver> $<TARGET_FILE:uniperceiver_static>)
add_test(NAME headers COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/check_headers.sh
         ${PROJECT_SOURCE_DIR}/include ${CMAKE_C_COMPILER} ${UP_CXX})

add_test(NAME style COMMAND bash ${PROJECT_SOURCE_DIR}/scripts/check_style.sh ${PROJECT_BINARY_DIR})
set_tests_properties(style PROPERTIES SKIP_RETURN_CODE 77)

if(TARGET uniperceiver_cli)
  foreach(name serve serve_page)
    add_test(NAME test_${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_${name}.sh)
    set_tests_properties(test_${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300 ENVIRONMENT
      "UP_SOURCE_DIR=${PROJECT_SOURCE_DIR};UP_BINARY=${PROJECT_BINARY_DIR}/uniperceiver")
  endforeach()
endif()
# The Python package over the shared library, where there is a Python with numpy (UP_PYTHON names one).
if(TARGET uniperceiver_cli AND NOT UP_SANITIZE)
  add_test(NAME python COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_python.sh
           $<TARGET_FILE:uniperceiver_cli> ${PROJECT_SOURCE_DIR})
  set_tests_properties(python PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT "UP_LIBRARY=$<TARGET_FILE:uniperceiver>")
  add_test(NAME outside_runtimes COMMAND sh -c "exec \"\${UP_PYTHON:-python3}\" -B \"$1\" \"$2\" \"$3\"" -
           ${CMAKE_CURRENT_SOURCE_DIR}/outside_runtimes.py $<TARGET_FILE:uniperceiver_cli> ${PROJECT_SOURCE_DIR})
  set_tests_properties(outside_runtimes PROPERTIES SKIP_RETURN_CODE 77)
endif()

# A sanitizer's runtime must be the first library of a program: these builds are run as they lie, not installed.
if(TARGET uniperceiver_cli AND NOT UP_SANITIZE)
  add_test(NAME install COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/check_install.sh
           ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR} ${CMAKE_C_COMPILER})
endif()

# The page for newcomers with its configurations, and the commands of all other pages, as written.
if(TARGET uniperceiver_cli)
  foreach(name own_data docs)
    add_test(NAME test_${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_${name}.sh)
    set_tests_properties(test_${name} PROPERTIES ENVIRONMENT
      "UP_SOURCE_DIR=${PROJECT_SOURCE_DIR};UP_BINARY=$<TARGET_FILE:uniperceiver_cli>")
  endforeach()
endif()

# The configurations of the paper's tasks over sample folders, and an evaluation that is killed.
if(TARGET uniperceiver_cli)
  add_test(NAME test_tasks COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_tasks.sh)
  set_tests_properties(test_tasks PROPERTIES TIMEOUT 600 ENVIRONMENT
    "UP_SOURCE_DIR=${PROJECT_SOURCE_DIR};UP_BINARY=$<TARGET_FILE:uniperceiver_cli>")
endif()
