// Vectors of floats in the widest form that the instruction set of this translation unit has.
//
// GCC and Clang compile arithmetic on `vector_size` types to whatever instructions the target has, so the kernels are
// written once, without intrinsics, and compiled once for each instruction set (isa_*.cpp), which defines:
//   ISA       the namespace of this copy of the kernels
//   LANES     floats in a vector register
//   TILE_ROWS rows of an accumulator tile, and
//   TILE_VECS vectors of such a row: their product, plus operands, must fit into the registers.
#pragma once

namespace ISA {

constexpr long kLanes = LANES;
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int IntVec __attribute__((vector_size(4 * LANES)));
// The same, at addresses that need no alignment beyond that of a float.
typedef float LooseVec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline Vec load(const float *from) { return *reinterpret_cast<const LooseVec *>(from); }
static inline void store(float *to, Vec value) { *reinterpret_cast<LooseVec *>(to) = value; }
static inline Vec spread(float value) { return value - Vec{}; }
static inline long round_up(long count, long multiple) { return (count + multiple - 1) / multiple * multiple; }

}  // namespace ISA
