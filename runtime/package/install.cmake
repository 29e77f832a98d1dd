# What `cmake --install` puts where: programs, library, headers, perdure.pc, CMake package, modules of the samples.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/perdure)
# Relative to the .pc file: `cmake --install --prefix` may differ from the prefix at configuration.
file(RELATIVE_PATH PKG_UP /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
cmake_path(APPEND PKG_LIBDIR "\${exec_prefix}" "${CMAKE_INSTALL_LIBDIR}")
cmake_path(APPEND PKG_INCLUDEDIR "\${prefix}" "${CMAKE_INSTALL_INCLUDEDIR}")
configure_file(runtime/package/perdure.pc.in ${PROJECT_BINARY_DIR}/perdure.pc @ONLY)
configure_package_config_file(runtime/package/perdure-config.cmake.in ${PROJECT_BINARY_DIR}/perdure-config.cmake
    INSTALL_DESTINATION ${package_dir})
# Before 1.0 every minor version may change the ABI.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/perdure-config-version.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS perdure_library EXPORT perdure-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(program perdure perdure-verify)
    if(TARGET ${program})
        install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    endif()
endforeach()
install(TARGETS perdure-supervisor RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/perdure)
install(DIRECTORY runtime/include/perdure DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY proto/perdure DESTINATION ${CMAKE_INSTALL_DATADIR}/perdure/proto FILES_MATCHING PATTERN "*.proto")
install(DIRECTORY workers/python DESTINATION ${CMAKE_INSTALL_DATADIR}/perdure USE_SOURCE_PERMISSIONS
    FILES_MATCHING PATTERN "*.py")
install(FILES ${PROJECT_BINARY_DIR}/perdure.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(EXPORT perdure-targets NAMESPACE perdure:: DESTINATION ${package_dir})
install(FILES ${PROJECT_BINARY_DIR}/perdure-config.cmake ${PROJECT_BINARY_DIR}/perdure-config-version.cmake
    DESTINATION ${package_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
