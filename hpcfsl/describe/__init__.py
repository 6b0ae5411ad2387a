"""What can be known before anything is trained. Layer 4.

- `description`: what the clients of a configuration hold: `hpcfsl data describe`.
- `kinds`: what is counted, classes or ranges of numbers.
- `screen`, `picture`: the counts as text, and as a picture.
- `traffic`: bytes of a client and round, by protocol and model: `hpcfsl bytes`.
- `catalogue`, `catalogue_screen`, `models_page`: the models, what their cuts cost: `hpcfsl models`, `docs/models.md`.
- `commands`: the commands.
"""
