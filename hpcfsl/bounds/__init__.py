"""What training a configuration's model could reach at best, and what clients reach on their own.

Layer 4. Any result of federated training lies between two others that need no federation: the *ceiling*, the same model
trained on all clients' samples in one place, and the *floor*, each client's own model trained on its samples alone.
`hpcfsl bounds` finds both, and the naive baseline below them, so that a number for a protocol can be read.
"""
