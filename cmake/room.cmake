# torusml_room(NAME [SOURCES ...] [DEPENDS rooms...] [LIBRARIES libs...])
#
# Makes the object target torusml_NAME from src/NAME/*.cc and one test program NAME_test from src/NAME/*_test.cc.
# A room sees the public headers, its own folder and the rooms that it names in DEPENDS; every other
# include of a room's header fails to compile, because include paths are handed out room by room.
function(torusml_room name)
  cmake_parse_arguments(ROOM "" "" "DEPENDS;LIBRARIES;SOURCES;TEST_DEPENDS;TEST_LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  if(tests)
    list(REMOVE_ITEM sources ${tests})
  endif()
  # The include path of a room is a folder of links, so that "circuit/x.h" resolves only for its users.
  set(view ${CMAKE_BINARY_DIR}/rooms/${name})
  file(MAKE_DIRECTORY ${view})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${view}/${name} SYMBOLIC)

  add_library(torusml_${name} STATIC ${sources} ${ROOM_SOURCES})
  target_include_directories(torusml_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                    $<BUILD_INTERFACE:${view}>)
  list(TRANSFORM ROOM_DEPENDS PREPEND torusml_)
  target_link_libraries(torusml_${name} PUBLIC ${ROOM_DEPENDS} ${ROOM_LIBRARIES})
  torusml_flags(torusml_${name})

  if(TORUSML_TESTS AND tests)
    add_executable(${name}_test ${tests})
    list(TRANSFORM ROOM_TEST_DEPENDS PREPEND torusml_)
    target_link_libraries(${name}_test PRIVATE torusml_${name} ${ROOM_TEST_DEPENDS} ${ROOM_TEST_LIBRARIES})
    torusml_test(${name})
    # What takes time in a test is the room; optimizing the test itself would double its time to compile.
    target_compile_options(${name}_test PRIVATE $<IF:$<CONFIG:Debug>,-O0,-O1>)
  endif()
endfunction()

# torusml_test(NAME)
#
# Makes the program NAME_test one of the tests: ./dev runs every program of its folder.
function(torusml_test name)
  target_link_libraries(${name}_test PRIVATE GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name}_test PRIVATE TORUSML_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  torusml_flags(${name}_test)
  set_target_properties(${name}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests.d)
  if(TORUSML_TEST_PROGRAMS AND NOT name IN_LIST TORUSML_TEST_PROGRAMS)
    set_target_properties(${name}_test PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
  add_test(NAME ${name} COMMAND ${name}_test)
endfunction()

function(torusml_flags target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Werror -Wno-missing-field-initializers)
  if(TORUSML_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=address,undefined)
  endif()
  if(TORUSML_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    # What is fuzzed are readers: kernels for one instruction set are enough.
    target_compile_definitions(${target} PRIVATE HWY_COMPILE_ONLY_STATIC)
  endif()
endfunction()
