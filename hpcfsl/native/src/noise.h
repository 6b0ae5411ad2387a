// Keyed Gaussian noise on an update: Philox4x32-10 (hpcfsl/seeding.py) and Box-Muller in float32.
//
// Plain loops over a short batch of counters, which the compiler turns into vector code; logarithm, sine and cosine are
// the polynomials of Cephes (Moshier), good to the last bits of a float32.
#pragma once

#include "columns.h"
#include "philox.h"

namespace ISA::columns {

// Return a number in (0, 1] from a word's upper 24 bits.
static inline float uniform(std::uint32_t word) { return (float(std::int32_t(word >> 8)) + 0.5f) * 0x1p-24f; }

// Return the natural logarithm of a normal positive number.
static inline float logarithm(float value) {
    std::int32_t bits;
    std::memcpy(&bits, &value, 4);
    // The mantissa in [sqrt(1/2), sqrt(2)), so that numbers just below 1 keep all their digits.
    const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
    bits -= exponent * (1 << 23);
    float x;
    std::memcpy(&x, &bits, 4);
    x -= 1.0f;
    float y = 7.0376836292e-2f;
    y = y * x - 1.1514610310e-1f;
    y = y * x + 1.1676998740e-1f;
    y = y * x - 1.2420140846e-1f;
    y = y * x + 1.4249322787e-1f;
    y = y * x - 1.6668057665e-1f;
    y = y * x + 2.0000714765e-1f;
    y = y * x - 2.4999993993e-1f;
    y = y * x + 3.3333331174e-1f;
    const float e = float(exponent), square = x * x;
    return (x + (y * x * square + e * -2.12194440e-4f - 0.5f * square)) + e * 0.693359375f;
}

// Write cosine and sine of a number of turns in [0, 1].
static inline void circle(float turns, float &cosine, float &sine) {
    const float quarters = 4.0f * turns;
    const std::int32_t quadrant = std::int32_t(quarters + 0.5f);
    const float x = (quarters - float(quadrant)) * 1.57079632679f, z = x * x;
    const float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
    const float c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    const float along = quadrant & 1 ? s : c, across = quadrant & 1 ? c : s;
    cosine = (quadrant + 1) & 2 ? -along : along;
    sine = quadrant & 2 ? -across : across;
}

// Write the normal numbers of a batch of counters, four each.
static void normals(const std::uint32_t (*words)[kPhiloxBlocks], float *out) {
    for (long i = 0; i < kPhiloxBlocks; i++)
        for (long pair = 0; pair < 2; pair++) {
            const float radius = __builtin_sqrtf(-2.0f * logarithm(uniform(words[2 * pair][i])));
            float cosine, sine;
            circle(uniform(words[2 * pair + 1][i]), cosine, sine);
            out[4 * i + 2 * pair] = radius * cosine;
            out[4 * i + 2 * pair + 1] = radius * sine;
        }
}

// Multiply a row by `factor`, add noise of this deviation, and return the sum of squares of what it then is.
static double perturb_row(float *row, long size, float factor, float deviation, const Stream &stream) {
    alignas(64) float noise[kPhiloxWords] = {};
    double square = 0;
    for (long first = 0; first < size; first += kPhiloxWords) {
        const long width = least(kPhiloxWords, size - first);
        if (deviation != 0) {
            alignas(64) std::uint32_t words[4][kPhiloxBlocks];
            philox(stream, std::uint32_t(first / 4), words);
            normals(words, noise);
        }
        for (long column = 0; column < width; column++)
            row[first + column] = row[first + column] * factor + deviation * noise[column];
        square += row_square(row + first, width);
    }
    return square;
}

// Perturb rows in place: each its own factor and noise keyed by its own entity; write the sums of squares. A row with an
// entity below 0 is left alone, and so is its sum.
static void perturb_rows(float *rows, long stride, long count, long size, const float *factors, float deviation,
                         const std::uint32_t *key, const long *entities, std::uint32_t round, double *squares) {
    for (long row = 0; row < count; row++)
        if (entities[row] >= 0)
            squares[row] = perturb_row(rows + row * stride, size, factors[row], deviation,
                                       Stream{key[0], key[1], /*lane=*/0, std::uint32_t(entities[row]), round});
}

const ColumnKernels kernels = {
    row_squares, perturb_rows, coordinate_median, geometry, weighted_sum, fingerprint, largest_bits, add_fixed,
};

}  // namespace ISA::columns
