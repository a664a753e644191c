// The options of `torusml compile` and `torusml estimate`, from what was typed.
#pragma once

#include <string>
#include <vector>

#include "cli/commands.h"
#include "compiler/quantized_module.h"

namespace torusml {

// Errors: unknown_option, invalid_argument, p_error_out_of_range, those of a cost table's file.
CompileOptions compile_options(const CompileArguments& arguments);

std::vector<std::string> input_names(const FloatGraph& graph);

// Before the work, so that a wrong name is told at once. Errors: those of declare_clear().
void check_clear(const FloatGraph& graph, const std::vector<std::string>& clear);

}  // namespace torusml
