// Philox4x32-10 (Salmon et al., SC 2011), the generator of `hpcfsl/seeding.py`: the same words for the same counters.
#pragma once

#include "vector.h"

namespace ISA {

// Who draws: the counter is (block, lane, entity, round), the key is (seed, purpose).
struct Stream {
    uint32_t seed, purpose, lane, entity, round;
};

constexpr long kPhiloxBlocks = 64;
constexpr long kPhiloxWords = 4 * kPhiloxBlocks;

// Write the words of `kPhiloxBlocks` counter blocks from `first` on, [word][block]: word 4 * block + word of
// `random_words`. Loops over blocks are what the compiler makes vector code of.
__attribute__((noinline)) static void philox(const Stream &stream, uint32_t first, uint32_t (*words)[kPhiloxBlocks]) {
    uint32_t *c0 = words[0], *c1 = words[1], *c2 = words[2], *c3 = words[3];
    for (long i = 0; i < kPhiloxBlocks; i++) {
        c0[i] = first + static_cast<uint32_t>(i);
        c1[i] = stream.lane, c2[i] = stream.entity, c3[i] = stream.round;
    }
    uint32_t k0 = stream.seed, k1 = stream.purpose;
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        for (long i = 0; i < kPhiloxBlocks; i++) {
            const uint64_t p0 = static_cast<uint64_t>(c0[i]) * 0xD2511F53u, p1 = static_cast<uint64_t>(c2[i]) * 0xCD9E8D57u;
            const uint32_t low = c1[i], high = c3[i];
            c0[i] = static_cast<uint32_t>(p1 >> 32) ^ low ^ k0;
            c1[i] = static_cast<uint32_t>(p1);
            c2[i] = static_cast<uint32_t>(p0 >> 32) ^ high ^ k1;
            c3[i] = static_cast<uint32_t>(p0);
        }
    }
}

}  // namespace ISA
