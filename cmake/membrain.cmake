# The few functions with which every room declares what it holds.

# What every target of ours is compiled with.
function(membrain_habits target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow -Werror)
  # GCC 12 takes a short literal put into a std::string for overlapping memory (its bug 105651).
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE -Wno-restrict)
  endif()
  if(MEMBRAIN_SANITIZE)
    list(JOIN MEMBRAIN_SANITIZE "," joined)
    target_compile_options(${target} PUBLIC -fsanitize=${joined} -fno-omit-frame-pointer
      -fno-sanitize-recover=all)
    if("address" IN_LIST MEMBRAIN_SANITIZE)  # it finds these two by itself; a fifth less to compile
      target_compile_options(${target} PUBLIC -fno-sanitize=null,object-size)
    endif()
    # The fences of protocol/seal.cc order memory for other processes, which TSan does not see.
    if("thread" IN_LIST MEMBRAIN_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(${target} PRIVATE -Wno-tsan)
    endif()
    # GCC with a sanitizer believes variables unset that its library sets (<regex>); the builds
    # without one keep this warning.
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
    target_link_options(${target} PUBLIC -fsanitize=${joined})
  endif()
endfunction()

# membrain_component(NAME sources... LIBS libraries...): a static library membrain_NAME, installed
# unless it is OURS_ONLY.
function(membrain_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "OURS_ONLY" "" "LIBS;SOURCES;PRIVATE_LIBS")
  add_library(membrain_${name} STATIC ${arg_SOURCES})
  add_library(membrain::${name} ALIAS membrain_${name})
  set_target_properties(membrain_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(membrain_${name}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
           $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
  target_link_libraries(membrain_${name} PUBLIC ${arg_LIBS} PRIVATE ${arg_PRIVATE_LIBS})
  membrain_habits(membrain_${name})
  if(NOT arg_OURS_ONLY)
    set_property(GLOBAL APPEND PROPERTY MEMBRAIN_COMPONENTS membrain_${name})
  endif()
endfunction()

# membrain_test(NAME LABEL unit SOURCES ... LIBS ... [TIMEOUT seconds]): one GoogleTest program,
# each TEST a ctest. Those that start processes or measure their own name SERIAL: one at a time, and
# one at any time (COST: first), beside tests of the other kind.
include(GoogleTest)
function(membrain_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "LABEL;TIMEOUT" "LIBS;SOURCES")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gtest GTest::gtest_main)
  membrain_habits(${name})
  set(properties LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
  if(arg_SERIAL)
    list(APPEND properties RESOURCE_LOCK processes COST 10)
  endif()
  if("thread" IN_LIST MEMBRAIN_SANITIZE)
    # UCX's hook of madvise runs in glibc's last steps of a thread, when TSan has forgotten it.
    list(APPEND properties ENVIRONMENT UCX_MEM_EVENTS=n)
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
endfunction()
