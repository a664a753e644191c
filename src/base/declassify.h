// The few places where a result that was computed from secrets becomes public on the client, so
// that a branch may follow: whether all inputs are what they should be.
//
//   if (!declassified(all_finite)) throw ...;
//
// Without a hook it hands its argument back. tests/secrets/constant_time.cc sets a hook that tells
// valgrind so; every other branch on a secret is an error there. Thread rule: the hook is set
// before other calls.
#pragma once

#include <cstddef>

namespace torusml {

using DeclassifyHook = void (*)(const void* pointer, std::size_t bytes);
void set_declassify_hook(DeclassifyHook hook);

// Not inline: the compiler must not see what the hook does.
bool declassified(bool value);

}  // namespace torusml
