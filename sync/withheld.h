#pragma once

// What a place holds under the names of secrets (SecretPatterns) where a mount withholds them. A
// pull's look lists it, so that the pull can tell it; here it is taken out of what was found before
// anything is decided: it is never fetched, replaced, deleted, or part of a base. Pure; the names
// come from anybody.

#include <cstddef>
#include <set>
#include <string>

#include "sync/manifest.h"

namespace hermes::sync {

// Of what is remembered of it from one look to the next, as canonical text: with that the far end
// can say by 32 bytes that nothing changed. More is not remembered: then each look brings the list,
// which is slower and as right.
inline constexpr size_t kMaxWithheldBytes = 4 << 20;

// Takes it out of `found`, and returns it.
Manifest TakeWithheld(Manifest* found);

// By the topmost name each, as a push tells those of the host: one for all that is below it.
std::set<std::string> WithheldNames(const Manifest& withheld);

// What is worth remembering: all, or nothing.
FileMap RememberedOf(const FileMap& withheld);

// Of a far end that holds both.
Digest DigestWith(const FileMap& files, const FileMap& withheld);

}  // namespace hermes::sync
