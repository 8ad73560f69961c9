"""Training: from a model that does not write Hebrew to one that does, by the DictaLM 2.0 recipe.

Each stage is a module with `XConfig` and `run(config, ...)`; `hebench adapt` runs them in order.
Nothing here imports deepspeed, trl or optimum-habana before it is needed, so that the stages run
on transformers 4.55 (Gaudi) and 5.x alike.
"""
