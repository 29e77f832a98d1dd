# Tests, simulator and benchmarks.
#   tests/unit/test_X.c        program X with cmocka; other *.c and *.proto there are shared by these programs
#   tests/checker/test_X.c     the same, for perdure-verify's code
#   tests/sim/*.c              perdure-sim, with the mutations compiled in; test_X.c there are programs on top of it
#   tests/bench/*.c            perdure-bench
#   tests/e2e/*.sh             scripts (not lib*.sh); PERDURE_BUILD and PERDURE_SOURCE are set
#   tests/kafka/*.sh, test_X.c the same with a real cluster, PERDURE_KAFKA=HOST:PORT,...; skipped without one
#   tests/chaos/X.c              perdure-chaos-X, for kafka/chaos; slow_disk.c is preloaded by e2e/backlog and memory
#   tests/modules/NAME/        test-modules/NAME.so

set(PERDURE_SEEDS 5000 CACHE STRING "seeds that the test sim/seeds runs")
set(PERDURE_TIMEOUT_FACTOR 1 CACHE STRING "multiplies the time limits of tests: for sanitizers, long runs, slow machines")
set(TESTS ${PROJECT_SOURCE_DIR}/tests)
set(TEST_ENVIRONMENT PERDURE_BUILD=${PROJECT_BINARY_DIR} PERDURE_SOURCE=${PROJECT_SOURCE_DIR})
# A program that needs Kafka and finds none is counted as skipped.
set(WITH_KAFKA sh -c "test -n \"$PERDURE_KAFKA\" && exec \"$@\" || exit 77" sh)

perdure_runtime(perdure_mutations)
target_compile_definitions(perdure_mutations PUBLIC PDR_MUTATIONS)

# What the command is made of, for tests of its parts; an archive, so that its main() stays out.
if(command_sources)
    add_library(perdure_command_parts STATIC ${command_sources})
    target_include_directories(perdure_command_parts PUBLIC ${PROJECT_SOURCE_DIR}/workers ${PROJECT_SOURCE_DIR}/replay)
    target_link_libraries(perdure_command_parts PRIVATE perdure_flags PUBLIC perdure_static)
    set_target_properties(perdure_command_parts PROPERTIES EXCLUDE_FROM_ALL ON)
endif()

# perdure_test_folder(FOLDER TIMEOUT libraries...): its test_*.c, one program each.
function(perdure_test_folder folder timeout)
    math(EXPR timeout "${timeout} * ${PERDURE_TIMEOUT_FACTOR}")
    file(GLOB tests CONFIGURE_DEPENDS ${TESTS}/${folder}/test_*.c)
    file(GLOB helpers CONFIGURE_DEPENDS ${TESTS}/${folder}/*.c)
    file(GLOB protos CONFIGURE_DEPENDS ${TESTS}/${folder}/*.proto)
    if(tests)
        list(REMOVE_ITEM helpers ${tests})
    endif()
    set(generated ${PROJECT_BINARY_DIR}/generated-tests/${folder})
    perdure_protos(proto_sources ${TESTS}/${folder} ${generated} ${protos})
    set(libraries ${ARGN})
    if(helpers OR proto_sources)
        add_library(test_${folder}_helpers STATIC ${helpers} ${proto_sources})
        target_include_directories(test_${folder}_helpers PUBLIC ${TESTS}/${folder})
        target_include_directories(test_${folder}_helpers SYSTEM PUBLIC ${generated})
        target_link_libraries(test_${folder}_helpers PRIVATE perdure_flags PUBLIC ${libraries} PkgConfig::CMOCKA)
        set(libraries test_${folder}_helpers ${libraries})
    endif()
    foreach(test IN LISTS tests)
        get_filename_component(name ${test} NAME_WE)
        set(target ${folder}_${name})
        add_executable(${target} ${test})
        set_target_properties(${target} PROPERTIES ENABLE_EXPORTS ON
            RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/${folder} OUTPUT_NAME ${name})
        target_link_libraries(${target} PRIVATE perdure_flags ${libraries} PkgConfig::CMOCKA)
        # A module that a test loads takes any pdr_ function from it. The others link only what they use.
        file(STRINGS ${test} loads_modules REGEX "[.]so\"|dlopen")
        if(loads_modules)
            set_target_properties(${target} PROPERTIES LINK_LIBRARY_OVERRIDE WHOLE_ARCHIVE,perdure_static)
        endif()
        if(folder STREQUAL kafka)
            add_test(NAME ${folder}/${name} COMMAND ${WITH_KAFKA} $<TARGET_FILE:${target}>)
        else()
            add_test(NAME ${folder}/${name} COMMAND ${target})
        endif()
        set_tests_properties(${folder}/${name} PROPERTIES LABELS ${folder} TIMEOUT ${timeout} SKIP_RETURN_CODE 77
            ENVIRONMENT "${TEST_ENVIRONMENT}")
    endforeach()
endfunction()

# perdure_test_scripts(FOLDER TIMEOUT)
function(perdure_test_scripts folder timeout)
    math(EXPR timeout "${timeout} * ${PERDURE_TIMEOUT_FACTOR}")
    file(GLOB scripts CONFIGURE_DEPENDS ${TESTS}/${folder}/*.sh)
    list(FILTER scripts EXCLUDE REGEX "/(lib|common)[^/]*\\.sh$")
    foreach(script IN LISTS scripts)
        get_filename_component(name ${script} NAME_WE)
        set(command bash ${script})
        if(folder STREQUAL kafka)
            set(command ${WITH_KAFKA} ${command})
        endif()
        add_test(NAME ${folder}/${name} COMMAND ${command})
        set_tests_properties(${folder}/${name} PROPERTIES LABELS ${folder} TIMEOUT ${timeout} SKIP_RETURN_CODE 77
            ENVIRONMENT "${TEST_ENVIRONMENT}")
    endforeach()
endfunction()

set(command_parts)
if(TARGET perdure_command_parts)
    set(command_parts perdure_command_parts)
endif()
set(verify)
if(TARGET perdure_verify_static)
    set(verify perdure_verify_static)
endif()

perdure_test_folder(unit 120 ${command_parts} perdure_static)
perdure_test_folder(checker 120 ${verify} perdure_static)
perdure_test_folder(sim 900 ${verify} perdure_mutations)
perdure_test_folder(e2e 600 ${command_parts} perdure_static)
perdure_test_folder(kafka 900 ${command_parts} perdure_static)
perdure_test_scripts(checker 300)
perdure_test_scripts(e2e 600)
perdure_test_scripts(kafka 900)

file(GLOB sim_sources CONFIGURE_DEPENDS ${TESTS}/sim/*.c)
list(FILTER sim_sources EXCLUDE REGEX "/test_[^/]*\\.c$")
if(sim_sources)
    add_executable(perdure-sim ${sim_sources})
    # Sites stand in events, and their size decides when a journal is cut: a seed means the same wherever it was built.
    target_compile_options(perdure-sim PRIVATE -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
    target_include_directories(perdure-sim PRIVATE ${TESTS}/sim)
    target_link_libraries(perdure-sim PRIVATE perdure_flags ${verify} perdure_mutations)
    math(EXPR sim_timeout "(2700 + ${PERDURE_SEEDS} / 5) * ${PERDURE_TIMEOUT_FACTOR}")
    add_test(NAME sim/seeds COMMAND perdure-sim --seeds ${PERDURE_SEEDS})
    # Every rule of the protocol left out once: each must be missed within 4000 seeds.
    add_test(NAME sim/mutations COMMAND perdure-sim --mutations)
    set_tests_properties(sim/seeds sim/mutations PROPERTIES LABELS sim TIMEOUT ${sim_timeout} ENVIRONMENT "${TEST_ENVIRONMENT}")
endif()

file(GLOB bench_sources CONFIGURE_DEPENDS ${TESTS}/bench/*.c)
if(bench_sources)
    add_executable(perdure-bench ${bench_sources})
    set_target_properties(perdure-bench PROPERTIES ENABLE_EXPORTS ON)
    target_include_directories(perdure-bench PRIVATE ${TESTS}/bench)
    target_link_libraries(perdure-bench PRIVATE ${PERDURE_PROGRAM_ALLOCATOR} perdure_flags $<LINK_LIBRARY:WHOLE_ARCHIVE,perdure_static>)
endif()

foreach(program client insync)
    add_executable(perdure-chaos-${program} ${TESTS}/chaos/${program}.c)
    target_link_libraries(perdure-chaos-${program} PRIVATE perdure_flags perdure_static)
endforeach()

add_library(perdure-slow-disk MODULE ${TESTS}/chaos/slow_disk.c)
set_target_properties(perdure-slow-disk PROPERTIES PREFIX "" C_VISIBILITY_PRESET default)
target_link_libraries(perdure-slow-disk PRIVATE perdure_flags)

perdure_modules(${TESTS}/modules ${PROJECT_BINARY_DIR}/test-modules)

# The decoder under libFuzzer; clang only.
option(PERDURE_FUZZ "build the fuzz targets" OFF)
if(PERDURE_FUZZ)
    file(GLOB fuzz_sources CONFIGURE_DEPENDS ${TESTS}/fuzz/*.c)
    foreach(fuzz IN LISTS fuzz_sources)
        get_filename_component(name ${fuzz} NAME_WE)
        add_executable(${name} ${fuzz})
        target_link_libraries(${name} PRIVATE perdure_flags perdure_static)
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    endforeach()
endif()
