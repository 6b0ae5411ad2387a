"""Where data enters: sources, partitions into clients, participation, and the feed that training reads.

Layer 1, numpy only; the only room that reads data files. In the order the data flows:

- `sources`: the registry of data sets; a source loads one `dataset.Dataset`.
- `partitions`: the registry of ways to divide a data set into clients; a partition makes one `population.Population`.
- `participation`: the registry of ways to choose each round's clients.
- `feed`: `Feed`, which joins data set and population and standardises the inputs as they are gathered.
"""
