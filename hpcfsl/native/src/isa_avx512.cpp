// The kernels for processors with AVX-512: 32 registers of 16 floats.
#include "standard.h"
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,bmi2,prefer-vector-width=512")
#define ISA isa_avx512
#define LANES 16
#define HALF_LANES 8
#define TILE_ROWS 6
#define TILE_VECS 4
#define DOT_ROWS 5
#include "kernels.h"
#endif
