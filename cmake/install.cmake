# What `cmake --install` puts where: the program, the library (shared and static), the public headers, and the two ways in
# which other builds find them: uniperceiver.pc and the CMake package `uniperceiver` with the target
# uniperceiver::uniperceiver. All of it can be moved as a whole: no file holds the prefix.
include(CMakePackageConfigHelpers)

install(TARGETS uniperceiver EXPORT uniperceiverTargets)
install(TARGETS uniperceiver_static)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/uniperceiver TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
foreach(module uniperceiver_mpi uniperceiver_video)
  if(TARGET ${module})
    install(TARGETS ${module} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/uniperceiver)
  endif()
endforeach()
if(TARGET uniperceiver_cli)
  install(TARGETS uniperceiver_cli)
endif()

# The dependencies of the library are its own: a program that links the shared one needs none of them.
set(UP_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/uniperceiver)
install(EXPORT uniperceiverTargets NAMESPACE uniperceiver:: DESTINATION ${UP_CMAKE_DIR})
file(WRITE ${PROJECT_BINARY_DIR}/uniperceiverConfig.cmake
     "include(\${CMAKE_CURRENT_LIST_DIR}/uniperceiverTargets.cmake)\n")
write_basic_package_version_file(${PROJECT_BINARY_DIR}/uniperceiverConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/uniperceiverConfig.cmake ${PROJECT_BINARY_DIR}/uniperceiverConfigVersion.cmake
        DESTINATION ${UP_CMAKE_DIR})

file(RELATIVE_PATH UP_PC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /) # from the file's folder to the prefix
list(JOIN UP_PC_REQUIRES " " UP_PC_REQUIRES)
list(JOIN UP_PC_LIBS " " UP_PC_LIBS)
configure_file(${PROJECT_SOURCE_DIR}/cmake/uniperceiver.pc.in uniperceiver.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/uniperceiver.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
