# cmake -D BUILD_DIR=… -D WORK_DIR=… -D CONSUMER_DIR=… -P install_test.cmake
#
# Installs what BUILD_DIR holds into an empty folder, then configures, builds and runs a project that knows only that.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status COMMAND_ECHO STDOUT)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "The install test failed (status ${status} of: ${ARGN}).")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
run(${CMAKE_COMMAND} -G Ninja -S ${CONSUMER_DIR} -B ${WORK_DIR}/build -D CMAKE_BUILD_TYPE=Release
    -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D CMAKE_FIND_USE_PACKAGE_REGISTRY=OFF)
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)
