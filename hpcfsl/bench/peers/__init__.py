"""The peers at work: scripts that run in a peer's own environment, by path.

They import nothing of this package, because a peer's environment does not have it; `common` beside them holds what
they share. Each takes one JSON object on its command line (`Request.to_peer_json`), does the same work as ours with
the peer's real simulation, and prints the same two events.
"""
