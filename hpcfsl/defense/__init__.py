"""The method: groups, credit scores, thresholds and target update weights. Layer 2: pure functions of arrays.

Rooms in the order of a round: `grouping` (step 1), `scoring` (step 3), `threshold` (step 4), `weighting` (steps 5, 6).
The group operation (step 7) and the global aggregation (step 8) live in `hpcfsl.aggregate`. `reference` is the whole
defence once more, slow and obvious; tests hold the rooms equal to it.
"""
