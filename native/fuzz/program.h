/* A program of ABI calls made of a Source's choices, and the promises that each call is held to. */
#pragma once

#include "source.h"

/* Runs one program. A broken promise is printed and ends the process, as the fuzzer expects. */
void run_program(Source& in);

/* What all programs so far did, so that a run can show that it reached something. */
struct Reached {
  long calls, ok, refused, without_memory;
};
const Reached& reached();
