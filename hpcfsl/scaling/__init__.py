"""What a round costs on paper: a cost model, fitted to real small runs, and what it says of runs that were not made.

Layer 4. `model` is the formulas, `fit` finds their constants from what `ranks` measured, `curves` draws them out to a
thousand ranks, `estimate` applies them to one configuration before it is run. docs/scaling.md explains all of it.
"""
