// What all files include before any instruction set is chosen: a header compiled for AVX-512 could otherwise be the copy
// of an inline function that the linker keeps for everybody.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define KERNELS_NAME_(isa) #isa
#define KERNELS_NAME(isa) KERNELS_NAME_(isa)

// The kernels of one instruction set; `module.cpp` picks the table that the processor can run.
struct Kernels {
    const char *name;
    long lanes;
};
