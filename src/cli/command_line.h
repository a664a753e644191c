// The program's command line.
//
//   return run_command_line(argc, argv);
//
// Exit status: 0; 1 when something went wrong, with the error on stderr; 2 for wrong usage.
#pragma once

namespace torusml {

int run_command_line(int count, char** arguments);

}  // namespace torusml
