"""Seeded random faults over whole commands, and what must hold afterwards: `make faults`.

`plan.py` makes a fault of a seed: a scenario (`scenarios.py`), what goes wrong, in which process,
at which step. A forked command counts its own steps (`strike.py`) and is struck at that one. Then
the scenario is brought to its end by ordinary commands, and `invariants.py` looks for what was
lost, torn, doubled or untrue. `one.py` does this for one fault, `__main__.py` for many.
"""
