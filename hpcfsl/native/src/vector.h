// Vectors of floats in the widest form that the instruction set of this translation unit has.
//
// GCC and Clang compile arithmetic on `vector_size` types to whatever instructions the target has, so the kernels are
// written once, without intrinsics, and compiled once for each instruction set (isa_*.cpp), which defines:
//   ISA        the namespace of this copy of the kernels
//   LANES      floats in a vector register
//   HALF_LANES floats in the narrower vector that rows of few channels are padded to
//   TILE_ROWS, TILE_VECS  rows and vectors of an accumulator tile: their product, and operands, must fit the registers
//   DOT_ROWS   rows of a tile of dot products, four columns wide
#pragma once

#include "standard.h"

namespace ISA {

constexpr long kLanes = LANES, kHalfLanes = HALF_LANES;
constexpr int kTileRows = TILE_ROWS, kTileVecs = TILE_VECS, kDotRows = DOT_ROWS;

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float HalfVec __attribute__((vector_size(4 * HALF_LANES)));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES)));

// Through memcpy: at any address, and one instruction once compiled.
template <typename V>
static inline V load_as(const float *from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}
template <typename V>
static inline void store_as(float *to, V value) {
    std::memcpy(to, &value, sizeof value);
}
template <typename V>
static inline V spread_as(float value) {
    return value - V{};
}
static inline Vec load(const float *from) { return load_as<Vec>(from); }
static inline void store(float *to, Vec value) { store_as<Vec>(to, value); }
static inline Vec spread(float value) { return spread_as<Vec>(value); }

static inline IntVec as_int(Vec value) { return (IntVec)value; }
static inline Vec as_float(IntVec value) { return (Vec)value; }

typedef float Quad __attribute__((vector_size(16)));
typedef int32_t QuadIndex __attribute__((vector_size(16)));

template <int A, int B, int C, int D>
static inline Quad pick(Quad low, Quad high) {
#if defined(__clang__)
    return __builtin_shufflevector(low, high, A, B, C, D);
#else
    return __builtin_shuffle(low, high, QuadIndex{A, B, C, D});
#endif
}

static inline Quad fold(Vec value) {
    Quad part[LANES / 4];
    std::memcpy(part, &value, sizeof part);
    for (long half = LANES / 8; half > 0; half /= 2)
        for (long i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

// The sums of the lanes of four vectors, in halves, so that the order is that of a tree.
static inline Quad add_lanes(const Vec *four) {
    const Quad a = fold(four[0]), b = fold(four[1]), c = fold(four[2]), d = fold(four[3]);
    const Quad ab = pick<0, 4, 1, 5>(a, b) + pick<2, 6, 3, 7>(a, b), cd = pick<0, 4, 1, 5>(c, d) + pick<2, 6, 3, 7>(c, d);
    return pick<0, 1, 4, 5>(ab, cd) + pick<2, 3, 6, 7>(ab, cd);
}

static inline long round_up(long count, long multiple) { return (count + multiple - 1) / multiple * multiple; }
// The distance of rows of so many features, and of pixels of so many channels: few channels take half a vector.
static inline long feature_pitch(long count) { return round_up(count, kLanes); }
static inline long channel_pitch(long count) { return count <= kHalfLanes ? kHalfLanes : round_up(count, kLanes); }

// e^x with a relative error of about 1e-7: x = n ln 2 + r, a polynomial in r (Cephes), and n into the exponent's bits.
static inline Vec exponential(Vec x) {
    const Vec low = spread(-87.3f), high = spread(88.3f);
    x = x < low ? low : x;  // a comparison with NaN is false, so NaN goes through
    x = x > high ? high : x;
    const Vec shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: the sum's low bits are round(x / ln 2)
    const Vec n = shifted - 12582912.0f;
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = spread(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * as_float((as_int(shifted) + (127 - 0x4B400000)) << 23);
}

static inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }
static inline Vec hyperbolic_tangent(Vec x) {
    // Near 0 the quotient cancels; the series is exact there.
    const Vec square = x * x;
    const Vec series = x * (1.0f + square * (-0.333333333f + square * 0.133333333f));
    const Vec quotient = 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f);
    return square < spread(1e-3f) ? series : quotient;
}

}  // namespace ISA
