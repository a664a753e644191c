#include "base/declassify.h"

namespace torusml {
namespace {

DeclassifyHook declassify_hook = nullptr;

}  // namespace

void set_declassify_hook(DeclassifyHook hook) { declassify_hook = hook; }

bool declassified(bool value) {
  if (declassify_hook != nullptr) declassify_hook(&value, sizeof value);
  return value;
}

}  // namespace torusml
