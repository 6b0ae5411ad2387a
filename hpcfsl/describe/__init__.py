"""What the clients of a configuration hold, before anything is trained: `hpcfsl data describe`. Layer 4.

- `description`: the counts.
- `kinds`: what is counted, classes or ranges of numbers.
- `screen`: the counts as text.
- `traffic`: bytes of a client and round, by protocol and model: `hpcfsl bytes`.
- `picture`: the classes or numbers of each client as a picture.
"""
