# What `cmake --install` puts where, in three components: `program`, with its manual and completions; `library`, shared,
# with its modules; `development`, the headers, the static library and the two ways in which other builds find them:
# uniperceiver.pc and the CMake package `uniperceiver`. All of it can be moved as a whole: no file holds the prefix.
# `cmake --build BUILD --target uninstall` removes what the last installation wrote.
include(CMakePackageConfigHelpers)

install(TARGETS uniperceiver EXPORT uniperceiverTargets
        LIBRARY COMPONENT library NAMELINK_COMPONENT development)
install(TARGETS uniperceiver_decoder RUNTIME DESTINATION ${CMAKE_INSTALL_LIBDIR}/uniperceiver COMPONENT library)
foreach(module uniperceiver_mpi uniperceiver_video)
  if(TARGET ${module})
    install(TARGETS ${module} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/uniperceiver COMPONENT library)
  endif()
endforeach()
foreach(component program library development) # each can be had alone, so each has its licence
  set(UP_DEB_program uniperceiver)
  set(UP_DEB_library libuniperceiver${UP_SOVERSION})
  set(UP_DEB_development libuniperceiver-dev)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/NOTICE
          DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${UP_DEB_${component}} COMPONENT ${component})
  install(FILES ${PROJECT_SOURCE_DIR}/src/data/vocabulary/LICENSE RENAME LICENSE.vocabulary
          DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${UP_DEB_${component}} COMPONENT ${component})
endforeach()

# --- the program ---
if(TARGET uniperceiver_cli)
  install(TARGETS uniperceiver_cli RUNTIME COMPONENT program)
  install(FILES ${PROJECT_SOURCE_DIR}/cmake/completion.bash RENAME uniperceiver
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT program)
  install(FILES ${PROJECT_SOURCE_DIR}/cmake/completion.zsh RENAME _uniperceiver
          DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions COMPONENT program)
  find_program(UP_HELP2MAN help2man)
  mark_as_advanced(UP_HELP2MAN)
  if(UP_HELP2MAN AND NOT CMAKE_CROSSCOMPILING)
    add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/man/uniperceiver.1.gz
      COMMAND bash ${PROJECT_SOURCE_DIR}/scripts/manual.sh ${UP_HELP2MAN} $<TARGET_FILE:uniperceiver_cli> ${PROJECT_BINARY_DIR}/man
      DEPENDS uniperceiver_cli ${PROJECT_SOURCE_DIR}/scripts/manual.sh VERBATIM)
    add_custom_target(manual ALL DEPENDS ${PROJECT_BINARY_DIR}/man/uniperceiver.1.gz)
    install(DIRECTORY ${PROJECT_BINARY_DIR}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program
            FILES_MATCHING PATTERN "*.1.gz")
  endif()
endif()

# --- development ---
install(TARGETS uniperceiver_static EXPORT uniperceiverStaticTargets ARCHIVE COMPONENT development)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/uniperceiver TYPE INCLUDE COMPONENT development
        FILES_MATCHING PATTERN "*.h")

# The dependencies of the library are its own: a program that links the shared one needs none of them.
set(UP_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/uniperceiver)
foreach(set uniperceiverTargets uniperceiverStaticTargets)
  install(EXPORT ${set} NAMESPACE uniperceiver:: DESTINATION ${UP_CMAKE_DIR} COMPONENT development)
endforeach()
set(UP_NEEDS_OPENMP ${OpenMP_C_FOUND})
if(WEBP_FOUND AND NOT UP_WEBP STREQUAL OFF)
  set(UP_NEEDS_WEBP WEBP:libwebp)
endif()
if(ARCHIVE_FOUND AND NOT UP_ARCHIVE STREQUAL OFF)
  set(UP_NEEDS_ARCHIVE ARCHIVE:libarchive)
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/uniperceiverConfig.cmake.in uniperceiverConfig.cmake @ONLY)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/uniperceiverConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/uniperceiverConfig.cmake ${PROJECT_BINARY_DIR}/uniperceiverConfigVersion.cmake
        DESTINATION ${UP_CMAKE_DIR} COMPONENT development)

# Libraries, not packages: with Requires.private, --cflags would want every package to be there.
file(RELATIVE_PATH UP_PC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /) # from the file's folder to the prefix
pkg_check_modules(UP_PRIVATE REQUIRED QUIET ${UP_PC_MODULES})
list(APPEND UP_PC_LIBS ${UP_PRIVATE_LDFLAGS})
list(FILTER UP_PC_LIBS EXCLUDE REGEX "^-L/(usr/)?lib(/[^/]*-linux-gnu)?$") # the linker looks there anyway
list(REMOVE_DUPLICATES UP_PC_LIBS)
list(JOIN UP_PC_LIBS " " UP_PC_LIBS)
configure_file(${PROJECT_SOURCE_DIR}/cmake/uniperceiver.pc.in uniperceiver.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/uniperceiver.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

if(NOT TARGET uninstall)
  add_custom_target(uninstall COMMAND ${CMAKE_COMMAND} -P ${PROJECT_SOURCE_DIR}/cmake/uninstall.cmake
                    WORKING_DIRECTORY ${PROJECT_BINARY_DIR} VERBATIM)
endif()
