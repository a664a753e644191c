# libtorusml, one shared library over all rooms, and libtorusml_client; only what include/torusml/ marks is exported.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

function(torusml_install_library target)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                              $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  install(TARGETS ${target} EXPORT torusml-targets COMPONENT torusml)
endfunction()

function(torusml_install_package)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/torusml DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT torusml)
  install(EXPORT torusml-targets NAMESPACE torusml:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/torusml
          COMPONENT torusml)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/torusml-config.cmake.in ${CMAKE_BINARY_DIR}/torusml-config.cmake
                                INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/torusml)
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/torusml-config-version.cmake
                                   COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/torusml-config.cmake ${CMAKE_BINARY_DIR}/torusml-config-version.cmake
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/torusml COMPONENT torusml)
endfunction()
