#include "cli/command_line.h"

int main(int count, char** arguments) { return torusml::run_command_line(count, arguments); }
