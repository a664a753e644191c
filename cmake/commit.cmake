# Writes OUTPUT, a header with the commit of the working tree SOURCE; the name is empty outside a repository. The
# file is left alone when nothing changed, so that nothing is compiled again.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --exclude=* --abbrev=12
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  set(commit "")
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define TORUSML_COMMIT \"@commit@\"\n" @ONLY)
