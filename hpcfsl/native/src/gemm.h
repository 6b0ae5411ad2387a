// Products of small matrices, in the three forms that forward and backward passes need.
//
// Everything here is for operands that fit into a core's caches, as one client's layers do; nothing is repacked. Each
// element of a result is summed in the order of the inner index, whatever the tiles are, so a row of a result has the
// same bits however many rows are asked for.
#pragma once

#include "vector.h"

namespace ISA {

template <int V>
struct Constant {
    static constexpr int value = V;
};

// What a product does with the numbers that stand where its result goes.
enum class Into { kSet, kAdd };

// The inner index of a product in two levels: `segments` runs of `length`, whose starts are `stride` apart in the left
// operand (and back to back in the right one). A convolution's kernel rows are such segments.
struct Inner {
    long segments, length, stride;
};

template <typename V, int R, int N>
static inline void nn_tile(const float *a, long lda, Inner inner, const float *b, long ldb, const float *bias, float *c,
                           long ldc, Into into) {
    constexpr long lanes = sizeof(V) / 4;
    V sum[R][N];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < N; v++) sum[r][v] = bias ? load_as<V>(bias + v * lanes) : V{};
    for (long s = 0; s < inner.segments; s++) {
        const float *row = a + s * inner.stride;
        for (long k = 0; k < inner.length; k++, b += ldb) {
            V right[N];
            for (int v = 0; v < N; v++) right[v] = load_as<V>(b + v * lanes);
            for (int r = 0; r < R; r++) {
                const V left = spread_as<V>(row[r * lda + k]);
                for (int v = 0; v < N; v++) sum[r][v] += left * right[v];
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < N; v++) {
            float *to = c + r * ldc + v * lanes;
            store_as<V>(to, into == Into::kAdd ? load_as<V>(to) + sum[r][v] : sum[r][v]);
        }
}

// Rows of a tile: enough sums in flight to hide the latency of an addition, few enough to stay in registers.
template <int N>
constexpr int tile_rows() {
    return N == 1 ? 2 * kTileRows : kTileRows;
}

// Call `tile` with a row and a number of rows that is a constant, for rows 0 to m in tiles of nearly equal size.
template <int Most, typename F>
static inline void each_tile(long m, F tile) {
    const long tiles = (m + Most - 1) / Most;
    for (long i = 0, row = 0; i < tiles; i++) {
        const long rows = (m - row + tiles - i - 1) / (tiles - i);
        switch (rows) {
            case 1: tile(row, Constant<1>{}); break;
            case 2: tile(row, Constant<2>{}); break;
            case 3: tile(row, Constant<3>{}); break;
            case 4: tile(row, Constant<4>{}); break;
            case 5: tile(row, Constant<Most < 5 ? 1 : 5>{}); break;
            case 6: tile(row, Constant<Most < 6 ? 1 : 6>{}); break;
            case 7: tile(row, Constant<Most < 7 ? 1 : 7>{}); break;
            case 8: tile(row, Constant<Most < 8 ? 1 : 8>{}); break;
            case 9: tile(row, Constant<Most < 9 ? 1 : 9>{}); break;
            case 10: tile(row, Constant<Most < 10 ? 1 : 10>{}); break;
            case 11: tile(row, Constant<Most < 11 ? 1 : 11>{}); break;
            default: tile(row, Constant<Most < 12 ? 1 : 12>{}); break;
        }
        row += rows;
    }
}

template <typename V, int N>
static void nn_rows(long m, const float *a, long lda, Inner inner, const float *b, long ldb, const float *bias, float *c,
                    long ldc, Into into) {
    each_tile<tile_rows<N>()>(m, [&](long row, auto rows) {
        nn_tile<V, rows.value, N>(a + row * lda, lda, inner, b, ldb, bias, c + row * ldc, ldc, into);
    });
}

// c[m][n] = or += a[m][inner] b[inner][n] + bias[n], where `n` is a multiple of the lanes of a vector or of half of one.
static void multiply_nn(long m, long n, const float *a, long lda, Inner inner, const float *b, long ldb,
                        const float *bias, float *c, long ldc, Into into) {
    long column = 0;
    auto at = [&](long offset) { return bias ? bias + offset : nullptr; };
    for (; column + kTileVecs * kLanes <= n; column += kTileVecs * kLanes)
        nn_rows<Vec, kTileVecs>(m, a, lda, inner, b + column, ldb, at(column), c + column, ldc, into);
    if (kTileVecs > 2 && column + 2 * kLanes <= n) {
        nn_rows<Vec, 2>(m, a, lda, inner, b + column, ldb, at(column), c + column, ldc, into);
        column += 2 * kLanes;
    }
    if (column + kLanes <= n) {
        nn_rows<Vec, 1>(m, a, lda, inner, b + column, ldb, at(column), c + column, ldc, into);
        column += kLanes;
    }
    if (column < n) nn_rows<HalfVec, 1>(m, a, lda, inner, b + column, ldb, at(column), c + column, ldc, into);
}

// The outer index of a transposed product in two levels: `blocks` of `length` rows; starts of blocks and rows are so far
// apart in the left and the right operand. A convolution's output rows are such blocks.
struct Outer {
    long blocks, length, left_block, left_row, right_block, right_row;
};

template <typename V, int R, int N>
static inline void tn_tile(const Outer &outer, const float *a, const float *b, float *c, long ldc) {
    constexpr long lanes = sizeof(V) / 4;
    V sum[R][N];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < N; v++) sum[r][v] = V{};
    for (long s = 0; s < outer.blocks; s++) {
        const float *left = a + s * outer.left_block, *right = b + s * outer.right_block;
        for (long m = 0; m < outer.length; m++, left += outer.left_row, right += outer.right_row) {
            V values[N];
            for (int v = 0; v < N; v++) values[v] = load_as<V>(right + v * lanes);
            for (int r = 0; r < R; r++) {
                const V factor = spread_as<V>(left[r]);
                for (int v = 0; v < N; v++) sum[r][v] += factor * values[v];
            }
        }
    }
    // Added at the end: one rounding at the size of the result, not one for every term.
    for (int r = 0; r < R; r++)
        for (int v = 0; v < N; v++) {
            float *to = c + r * ldc + v * lanes;
            store_as<V>(to, load_as<V>(to) + sum[r][v]);
        }
}

template <typename V, int N>
static void tn_rows(long k, const Outer &outer, const float *a, const float *b, float *c, long ldc) {
    each_tile<tile_rows<N>()>(
        k, [&](long row, auto rows) { tn_tile<V, rows.value, N>(outer, a + row, b, c + row * ldc, ldc); });
}

// c[k][n] += sum over the outer index of a[outer][k] b[outer][n]; `n` as in `multiply_nn`.
static void multiply_tn(long k, long n, const Outer &outer, const float *a, const float *b, float *c, long ldc) {
    long column = 0;
    for (; column + kTileVecs * kLanes <= n; column += kTileVecs * kLanes)
        tn_rows<Vec, kTileVecs>(k, outer, a, b + column, c + column, ldc);
    if (kTileVecs > 2 && column + 2 * kLanes <= n) {
        tn_rows<Vec, 2>(k, outer, a, b + column, c + column, ldc);
        column += 2 * kLanes;
    }
    if (column + kLanes <= n) {
        tn_rows<Vec, 1>(k, outer, a, b + column, c + column, ldc);
        column += kLanes;
    }
    if (column < n) tn_rows<HalfVec, 1>(k, outer, a, b + column, c + column, ldc);
}

template <int R>
static inline void nt_tile(long k, const float *a, long lda, const float *b, long ldb, const float *bias, float *c,
                           long ldc) {
    constexpr int N = 4;
    Vec sum[R][N];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) sum[r][n] = Vec{};
    for (long i = 0; i < k; i += kLanes) {
        Vec right[N];
        for (int n = 0; n < N; n++) right[n] = load(b + n * ldb + i);
        for (int r = 0; r < R; r++) {
            const Vec left = load(a + r * lda + i);
            for (int n = 0; n < N; n++) sum[r][n] += left * right[n];
        }
    }
    for (int r = 0; r < R; r++) {
        Quad dots = add_lanes(sum[r]);
        if (bias) {
            Quad offset;
            std::memcpy(&offset, bias, sizeof offset);
            dots += offset;
        }
        std::memcpy(c + r * ldc, &dots, sizeof dots);
    }
}

// c[m][n] = a[m][k] b[n][k] + bias[n], where `n` is a multiple of four, `k` one of the lanes, and operands are zero-padded.
static void multiply_nt(long m, long n, long k, const float *a, long lda, const float *b, long ldb, const float *bias,
                        float *c, long ldc) {
    for (long column = 0; column < n; column += 4, b += 4 * ldb, c += 4, bias = bias ? bias + 4 : nullptr) {
        each_tile<kDotRows>(m, [&](long row, auto rows) {
            nt_tile<rows.value>(k, a + row * lda, lda, b, ldb, bias, c + row * ldc, ldc);
        });
    }
}

}  // namespace ISA
