# install + find_package(membrain): the public headers, the libraries behind them, the binary and
# the benchmark programs that `membrain bench` runs.
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
