"""Choosing a checkpoint: evaluate during or beside training, decide with the noise known.

Whoever evaluates (the Trainer's callback, a watcher, a sweep) appends one line a checkpoint to
`selection.jsonl`; the rules read that log and nothing else, and write `selection.json`.

`found.py` knows the checkpoints of a run folder, `evaluate.py` evaluates one, `items.py` makes its
scores comparable, `log.py` keeps them. `callback.py`, `watch.py` (with `leases.py`) and `sweep.py`
are who evaluates; `table.py`, `rules.py` and `choose.py` decide; `average.py` adds a candidate,
`task_fitness.py` judges the tasks, `leaderboard.py` shows the checkpoints.
"""
