"""Choosing a checkpoint: evaluate during or beside training, decide with the noise known.

Whoever evaluates (the Trainer's callback, a watcher, a sweep) appends one line a checkpoint to
`selection.jsonl`; the rules read that log and nothing else, and write `selection.json`.
"""
