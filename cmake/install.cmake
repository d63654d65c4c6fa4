# install + find_package(membrain): the public headers, the libraries behind them, the binary,
# the benchmark programs that `membrain bench` runs, systemd's units and the user that they name.
include(CMakePackageConfigHelpers)

set(membrain_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/membrain)
get_property(components GLOBAL PROPERTY MEMBRAIN_COMPONENTS)

install(TARGETS ${components} membrain_headers EXPORT membrain
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT membrain NAMESPACE membrain:: FILE membrainTargets.cmake
  DESTINATION ${membrain_package_folder})
if(TARGET membrain)
  install(TARGETS membrain RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(program IN ITEMS transfer_bench store_bench metadata_bench layout_bench peer_bench)
  if(TARGET ${program})
    install(TARGETS ${program} OPTIONAL
      RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/membrain)
  endif()
endforeach()

configure_package_config_file(cmake/membrainConfig.cmake.in membrainConfig.cmake
  INSTALL_DESTINATION ${membrain_package_folder}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the API.
write_basic_package_version_file(membrainConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/membrainConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/membrainConfigVersion.cmake
  DESTINATION ${membrain_package_folder})

# Units name the program where it is installed, which `cmake --install --prefix` is the last to say.
install(CODE "
  set(units \"${PROJECT_SOURCE_DIR}/deploy/systemd\")
  cmake_path(SET membrain_program \"\${CMAKE_INSTALL_PREFIX}\")
  cmake_path(APPEND membrain_program \"${CMAKE_INSTALL_BINDIR}\" membrain)
  foreach(unit IN ITEMS membrain-server.service membrain-node.service)
    configure_file(\"\${units}/\${unit}.in\" \"${CMAKE_CURRENT_BINARY_DIR}/\${unit}\" @ONLY)
    file(INSTALL \"${CMAKE_CURRENT_BINARY_DIR}/\${unit}\"
      DESTINATION \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system\")
  endforeach()")
install(FILES deploy/systemd/membrain.sysusers DESTINATION lib/sysusers.d RENAME membrain.conf)
