#pragma once

#define TORUSML_EXPORT __attribute__((visibility("default")))
