// Keyed shuffling: the sample orders of many clients, as `hpcfsl/training/batches.py` defines them.
#pragma once

#include "philox.h"

namespace ISA {

struct Draw {
    int64_t key, sample;
    bool operator<(const Draw &other) const { return key != other.key ? key < other.key : sample < other.sample; }
};

// orders[client][0 .. count) = the samples by their keys, of two words each; -1 from there to `longest`.
static int shuffle(const int64_t *counts, const int64_t *clients, long num_clients, long longest, const uint32_t *key,
                   uint32_t round, uint32_t lane, int64_t *orders) {
    Draw *const draws = new (std::nothrow) Draw[round_up(longest, 2 * kPhiloxBlocks)];
    if (!draws) return 0;
    for (long i = 0; i < num_clients; i++, orders += longest) {
        const Stream stream{key[0], key[1], lane, static_cast<uint32_t>(clients[i]), round};
        for (long first = 0; first < counts[i]; first += 2 * kPhiloxBlocks) {
            uint32_t words[4][kPhiloxBlocks];
            philox(stream, static_cast<uint32_t>(first / 2), words);
            for (long block = 0; block < kPhiloxBlocks; block++)
                for (long half = 0; half < 2; half++) {
                    const int64_t high = words[2 * half][block], low = words[2 * half + 1][block];
                    draws[first + 2 * block + half] = {(high << 31) ^ low, first + 2 * block + half};
                }
        }
        std::sort(draws, draws + counts[i]);
        for (long j = 0; j < longest; j++) orders[j] = j < counts[i] ? draws[j].sample : -1;
    }
    delete[] draws;
    return 1;
}

}  // namespace ISA
