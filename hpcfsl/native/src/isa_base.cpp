// The kernels for every other processor: vectors of 4 floats (SSE2, NEON, VSX).
#include "standard.h"
#define ISA isa_base
#define LANES 4
#define HALF_LANES 4
#define TILE_ROWS 4
#define TILE_VECS 2
#define DOT_ROWS 2
#include "kernels.h"
