# `cpack -G DEB` in the build folder: three Debian packages, one a component of cmake/install.cmake.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME uniperceiver)
set(CPACK_PACKAGE_VENDOR "the authors of Uni-Perceiver in C")
set(UP_PACKAGE_CONTACT "The builder <root@localhost>" CACHE STRING "Maintainer of the packages, as Debian writes it")
set(CPACK_PACKAGE_CONTACT "${UP_PACKAGE_CONTACT}")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL program library development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
    WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME ${UP_DEB_program})
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME ${UP_DEB_library})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
file(WRITE ${PROJECT_BINARY_DIR}/debian/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/debian/triggers)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME ${UP_DEB_development})
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(exactly "${UP_DEB_library} (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_RECOMMENDS "${exactly}") # its modules: videos, several processes
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${exactly}")
set(about "One Transformer encoder for text, pictures and video:\n classification, retrieval, captions and training as comparisons of features.")
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION "Uni-Perceiver: the program\n ${about}")
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "Uni-Perceiver: the shared library\n ${about}")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "Uni-Perceiver: files for development\n ${about}")

# What Debian wants beside the licence itself.
file(READ ${PROJECT_SOURCE_DIR}/NOTICE notice)
file(WRITE ${PROJECT_BINARY_DIR}/debian/copyright
     "${notice}\nOn Debian systems, the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.\n")
string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC)
foreach(component program library development)
  file(WRITE ${PROJECT_BINARY_DIR}/debian/${component}/changelog
       "${UP_DEB_${component}} (${PROJECT_VERSION}) unstable; urgency=medium\n\n  * See CHANGELOG.md of the source.\n\n -- ${CPACK_PACKAGE_CONTACT}  ${now}\n")
  execute_process(COMMAND gzip -9nf ${PROJECT_BINARY_DIR}/debian/${component}/changelog)
  install(FILES ${PROJECT_BINARY_DIR}/debian/copyright ${PROJECT_BINARY_DIR}/debian/${component}/changelog.gz
          DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${UP_DEB_${component}} COMPONENT ${component} EXCLUDE_FROM_ALL)
endforeach()
include(CPack)
