// A group's updates, one row a client: their coordinate median and geometry, their weighted sum, norms, fingerprints.
//
// A row is read once a kernel, and every sum of one is kept in float64 in a fixed order, so results depend on the rows
// alone. Rows lie `stride` floats apart; all sizes are in elements.
#pragma once

#include "vector.h"

namespace ISA::columns {

constexpr long kHalf = LANES / 2;  // doubles in a register
typedef double DoubleVec __attribute__((vector_size(8 * LANES / 2)));
typedef float LooseHalf __attribute__((vector_size(4 * LANES / 2), aligned(4), may_alias));

static inline DoubleVec widen(const float *from) {
    return __builtin_convertvector(*reinterpret_cast<const LooseHalf *>(from), DoubleVec);
}
static inline double total(DoubleVec values) {
    double sum = 0;
    for (long lane = 0; lane < kHalf; lane++) sum += values[lane];
    return sum;
}
static inline long least(long one, long other) { return one < other ? one : other; }

// Zeroed memory for one call, given out in aligned pieces; `start` is null where there was none.
struct Scratch {
    unsigned char *start, *next;
    explicit Scratch(long bytes) {
        const std::size_t whole = round_up(bytes, 64) + 64 * 16;  // room to align up to 16 pieces
        start = next = static_cast<unsigned char *>(std::aligned_alloc(64, whole));
        if (start) std::memset(start, 0, whole);
    }
    ~Scratch() { std::free(start); }
    template <typename T> T *take(long count) {
        T *piece = reinterpret_cast<T *>(next);
        next += round_up(count * long(sizeof(T)), 64);
        return piece;
    }
};

// Return the sum of the squares of a row.
static double row_square(const float *row, long size) {
    constexpr long kChains = 4;
    DoubleVec sums[kChains] = {};
    long column = 0;
    for (; column + kChains * kHalf <= size; column += kChains * kHalf)
        for (long chain = 0; chain < kChains; chain++) {
            DoubleVec values = widen(row + column + chain * kHalf);
            sums[chain] += values * values;
        }
    double sum = total((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; column < size; column++) sum += double(row[column]) * double(row[column]);
    return sum;
}

static void row_squares(const float *rows, long stride, long count, long size, double *squares) {
    for (long row = 0; row < count; row++) squares[row] = row_square(rows + row * stride, size);
}

// --- coordinate median, by a network of `length` comparisons: pairs of rows (low, high) ---

constexpr long kColumns = 4;  // registers of columns that pass through the network together
constexpr long kBlock = 128;  // columns of a block: 25 rows of them in float64 fit into a core's nearest cache
static_assert(kBlock % (kColumns * kLanes) == 0, "a block is a whole number of passes through the network");

static inline Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
static inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

// Write the median of kBlock columns; `sorted` holds count * kColumns registers. The next block is fetched meanwhile.
static void median_block(const float *rows, long stride, long count, const int *network, long length, Vec *sorted,
                         float *median) {
    for (long column = 0; column < kBlock; column += kColumns * kLanes) {
        for (long row = 0; row < count; row++)
            for (long c = 0; c < kColumns; c++) {
                const float *from = rows + row * stride + column + c * kLanes;
                __builtin_prefetch(from + kBlock);
                sorted[row * kColumns + c] = load(from);
            }
        for (long step = 0; step < length; step++) {
            Vec *low = sorted + network[2 * step] * kColumns, *high = sorted + network[2 * step + 1] * kColumns;
            for (long c = 0; c < kColumns; c++) {
                Vec a = low[c], b = high[c];
                low[c] = smaller(a, b);
                high[c] = larger(a, b);
            }
        }
        const Vec *upper = sorted + count / 2 * kColumns, *lower = count % 2 ? upper : upper - kColumns;
        for (long c = 0; c < kColumns; c++)
            // Halved before the sum: the middle two of 1e38 must not overflow.
            store(median + column + c * kLanes, count % 2 ? upper[c] : lower[c] * 0.5f + upper[c] * 0.5f);
    }
}

// Copy the last columns, fewer than kBlock, into a block of their own, filled up with zeros.
static void pad_block(const float *rows, long stride, long count, long width, float *padded) {
    for (long row = 0; row < count; row++) {
        std::memset(padded + row * kBlock + width, 0, 4 * (kBlock - width));
        std::memcpy(padded + row * kBlock, rows + row * stride, 4 * width);
    }
}

// Write the median of every coordinate; return 0 where memory is short.
static int coordinate_median(const float *rows, long stride, long count, long size, const int *network, long length,
                             float *median) {
    Scratch scratch(4 * count * kColumns * kLanes + 4 * (count + 1) * kBlock);
    if (!scratch.start) return 0;
    Vec *sorted = scratch.take<Vec>(count * kColumns);
    float *padded = scratch.take<float>(count * kBlock), *last = scratch.take<float>(kBlock);
    long first = 0;
    for (; first + kBlock <= size; first += kBlock)
        median_block(rows + first, stride, count, network, length, sorted, median + first);
    if (first < size) {
        pad_block(rows + first, stride, count, size - first, padded);
        median_block(padded, kBlock, count, network, length, sorted, last);
        std::memcpy(median + first, last, 4 * (size - first));
    }
    return 1;
}

// --- geometry: inner products of the rows, less their coordinate median, with each other ---

#if LANES == 16
constexpr long kTile = 4;  // rows by rows of a tile of products, which with its operands fills the registers
#else
constexpr long kTile = 3;
#endif

// Sums over blocks of columns. Sums of products stay in the lanes of a register from block to block, which is fastest,
// in a group of up to kWide rows; in a larger one they would take more memory than the updates.
struct Geometry {
    long padded;      // rows, to a whole number of tiles
    DoubleVec *wide;  // [padded, padded], or
    double *narrow;   // [padded, padded]; of either, only what is not right of the diagonal's tiles
    DoubleVec *products, *squares, *center_square;
};
constexpr long kWide = 256;

// Add the inner products of a tile of rows, from i and from j on, over a block.
static inline void add_tile(const double *block, long i, long j, const Geometry &sums) {
    DoubleVec acc[kTile][kTile] = {};
    if (sums.wide)
        for (long a = 0; a < kTile; a++)
            for (long b = 0; b < kTile; b++) acc[a][b] = sums.wide[(i + a) * sums.padded + j + b];
    const double *left = block + i * kBlock, *right = block + j * kBlock;
    for (long column = 0; column < kBlock; column += kHalf)
        for (long a = 0; a < kTile; a++) {
            DoubleVec value = *reinterpret_cast<const DoubleVec *>(left + a * kBlock + column);
            for (long b = 0; b < kTile; b++)
                acc[a][b] += value * *reinterpret_cast<const DoubleVec *>(right + b * kBlock + column);
        }
    for (long a = 0; a < kTile; a++)
        for (long b = 0; b < kTile; b++) {
            const long cell = (i + a) * sums.padded + j + b;
            if (sums.wide)
                sums.wide[cell] = acc[a][b];
            else
                sums.narrow[cell] += total(acc[a][b]);
        }
}

// Add one block of kBlock columns; `centred` holds padded count * kBlock doubles, its rows past `count` are zero.
static void add_block(const float *rows, long stride, long count, const float *median, double *centred,
                      const Geometry &sums) {
    DoubleVec center[kBlock / kHalf];
    for (long v = 0; v < kBlock / kHalf; v++) {
        center[v] = widen(median + v * kHalf);
        *sums.center_square += center[v] * center[v];
    }
    for (long row = 0; row < count; row++) {
        DoubleVec product = sums.products[row], square = sums.squares[row];
        for (long v = 0; v < kBlock / kHalf; v++) {
            DoubleVec value = widen(rows + row * stride + v * kHalf);
            product += value * center[v];
            square += value * value;
            *reinterpret_cast<DoubleVec *>(centred + row * kBlock + v * kHalf) = value - center[v];
        }
        sums.products[row] = product;
        sums.squares[row] = square;
    }
    for (long i = 0; i < count; i += kTile)
        for (long j = 0; j <= i; j += kTile) add_tile(centred, i, j, sums);
}

// Write each row's inner product with the median, its square, all products of centred rows and the median's square;
// return 0 where memory is short. `network` sorts the middle of `count` rows.
static int geometry(const float *rows, long stride, long count, long size, const int *network, long length,
                    double *products, double *squares, double *gram, double *center_square) {
    const long padded = round_up(count, kTile), vec = sizeof(DoubleVec), cell = count <= kWide ? vec : 8;
    Scratch scratch(4 * count * kColumns * kLanes + 4 * (count + 1) * kBlock + 8 * padded * kBlock +
                    cell * padded * padded + vec * (2 * count + 1));
    if (!scratch.start) return 0;
    Vec *sorted = scratch.take<Vec>(count * kColumns);
    float *last = scratch.take<float>(count * kBlock), *median = scratch.take<float>(kBlock);
    double *centred = scratch.take<double>(padded * kBlock);
    DoubleVec *wide = count <= kWide ? scratch.take<DoubleVec>(padded * padded) : nullptr;
    double *narrow = wide ? nullptr : scratch.take<double>(padded * padded);
    const Geometry sums = {padded, wide, narrow, scratch.take<DoubleVec>(count), scratch.take<DoubleVec>(count),
                           scratch.take<DoubleVec>(1)};
    for (long first = 0; first < size; first += kBlock) {
        const float *block = rows + first;
        long between = stride;
        if (first + kBlock > size) {
            pad_block(block, stride, count, size - first, last);
            block = last;
            between = kBlock;
        }
        median_block(block, between, count, network, length, sorted, median);
        add_block(block, between, count, median, centred, sums);
    }
    for (long i = 0; i < count; i++) {
        products[i] = total(sums.products[i]);
        squares[i] = total(sums.squares[i]);
        for (long j = 0; j <= i; j++) {
            const long at = i * padded + j;
            gram[i * count + j] = gram[j * count + i] = wide ? total(wide[at]) : narrow[at];
        }
    }
    *center_square = total(*sums.center_square);
    return 1;
}

// --- weighted sum ---

// Add factor times row to `sums`, for N rows in their order.
template <long N>
static inline void add_rows(const float *const *rows, const double *factors, long width, double *sums) {
    for (long column = 0; column < width; column++) {
        double sum = sums[column];
        for (long term = 0; term < N; term++) sum += factors[term] * double(rows[term][column]);
        sums[column] = sum;
    }
}

// Write the sum of factor times row over the `count` rows named by `chosen`, added in their order in float64.
static void weighted_sum(const float *rows, long stride, const long *chosen, const double *factors, long count,
                         long size, float *sum) {
    constexpr long kWidth = 1024;
    double sums[kWidth];
    for (long first = 0; first < size; first += kWidth) {
        const long width = least(kWidth, size - first);
        for (long column = 0; column < width; column++) sums[column] = 0;
        for (long term = 0; term < count; term += 4) {
            const float *from[4];
            for (long i = 0; i < 4; i++) from[i] = rows + chosen[least(term + i, count - 1)] * stride + first;
            if (term + 4 <= count) {
                add_rows<4>(from, factors + term, width, sums);
            } else {
                for (long i = 0; term + i < count; i++) add_rows<1>(from + i, factors + term + i, width, sums);
            }
        }
        for (long column = 0; column < width; column++) sum[first + column] = float(sums[column]);
    }
}

// --- exact sums over groups (hpcfsl/aggregate/exact.py) ---

// Write the largest magnitude in each run of `run` columns, as the bits of a float: NaN and infinity are the largest.
static void largest_bits(const float *row, long size, long run, std::uint32_t *largest) {
    for (long first = 0; first < size; first += run) {
        std::uint32_t most = 0;
        for (long column = first; column < least(first + run, size); column++) {
            std::uint32_t bits;
            std::memcpy(&bits, row + column, 4);
            bits &= 0x7FFFFFFFu;
            most = bits > most ? bits : most;
        }
        largest[first / run] = most;
    }
}

// Add factor times row to fixed-point sums; each run of `run` columns has its own scale, a power of two.
static void add_fixed(const float *row, double factor, const double *scales, long size, long run, std::int64_t *sums) {
    for (long first = 0; first < size; first += run) {
        const double scale = scales[first / run];
        // The product is rounded before it is scaled, and that to the nearest integer, ties to even.
        for (long column = first; column < least(first + run, size); column++)
            sums[column] += std::int64_t(__builtin_rint(factor * double(row[column]) * scale));
    }
}

// --- fingerprints (hpcfsl/trace/fingerprint.py says what they are) ---

constexpr long kBins = 64;
constexpr std::uint64_t kHashStep = 0x9E3779B97F4A7C15u, kHashStart = 0xD1B54A32D192ED03u;
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the hash reads pairs of words as they lie in memory");

// Add `width` columns, a multiple of kBins, to the bins of one row; `signs` are 0 or the sign bit.
static void add_sketch(const float *row, const std::uint32_t *signs, long width, double *bins) {
    typedef std::uint32_t LooseHalfBits __attribute__((vector_size(4 * LANES / 2), aligned(4), may_alias));
    for (long first = 0; first < kBins; first += 4 * kHalf) {
        DoubleVec sums[4];
        std::memcpy(sums, bins + first, sizeof sums);
        for (long column = first; column < width; column += kBins)
            for (long c = 0; c < 4; c++) {
                const long at = column + c * kHalf;
                LooseHalfBits bits = *reinterpret_cast<const LooseHalfBits *>(row + at) ^
                                     *reinterpret_cast<const LooseHalfBits *>(signs + at);
                sums[c] += widen(reinterpret_cast<const float *>(&bits));
            }
        std::memcpy(bins + first, sums, sizeof sums);
    }
}

// Return the hash sum of `pairs` pairs of words of which the first has number `number`.
static std::uint64_t add_hash(const float *row, long pairs, std::uint64_t number) {
    std::uint64_t sum = 0;
    for (long pair = 0; pair < pairs; pair++) {
        std::uint64_t word;
        std::memcpy(&word, row + 2 * pair, 8);
        const std::uint64_t mixed = word ^ ((number + std::uint64_t(pair)) * kHashStep + kHashStart);
        sum += (mixed & 0xFFFFFFFFu) * (mixed >> 32) + ((word << 32) | (word >> 32));
    }
    return sum;
}

// Add the hash sum and the sketch of every row to zeros; without `signs` the hash sum alone.
static void fingerprint(const float *rows, long stride, long count, long size, const std::uint32_t *signs,
                        std::uint64_t *hashes, double *sketches) {
    constexpr long kWidth = 4096;  // a piece of the signs stays in the nearest cache for all rows
    for (long first = 0; first < size; first += kWidth) {
        const long width = least(kWidth, size - first), whole = width / kBins * kBins;
        for (long row = 0; row < count; row++) {
            const float *from = rows + row * stride + first;
            if (signs) {
                double *bins = sketches + row * kBins;
                add_sketch(from, signs + first, whole, bins);
                for (long column = whole; column < width; column++)
                    bins[column - whole] += signs[first + column] ? -double(from[column]) : double(from[column]);
            }
            hashes[row] += add_hash(from, width / 2, std::uint64_t(first / 2));
            if (width % 2) {
                const float last[2] = {from[width - 1], 0};
                hashes[row] += add_hash(last, 1, std::uint64_t((first + width) / 2));
            }
        }
    }
}

}  // namespace ISA::columns
