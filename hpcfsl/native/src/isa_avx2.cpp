// The kernels for processors with AVX2 and FMA: 16 registers of 8 floats.
#include "standard.h"
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,bmi2")
#define ISA isa_avx2
#define LANES 8
#define HALF_LANES 4
#define TILE_ROWS 6
#define TILE_VECS 2
#define DOT_ROWS 2
#include "kernels.h"
#endif
