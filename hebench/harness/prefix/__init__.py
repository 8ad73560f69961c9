"""lm-eval's HF model, with what requests have in common computed once: `--backend prefix`.

    hebench eval MODEL --tasks hebench_paper --out runs/x     (the default for local models)

Once this package is imported, lm-eval finds the model by the name `hebench_prefix`; a harness that
reads entry points finds it by itself (`lm_eval run --model hebench_prefix`), 0.4.13 does not.

The requests of a call form a tree: the few-shot block, the passage, the question, the answers.
Each of its tokens is computed once, in one row with a mask for the branches (`tree.py`,
`branches.py`), and the vocabulary only where something is scored. Free answers branch off the
prompts' tree, are written side by side, look ahead, and leave when they are done (`decode.py`);
what their prompts share is held and attended to once for all of them, on a GPU where it is large
(`rows.py`, `guesses.py`).

Answers are the stock model's: in float32 log-likelihoods agree within 1e-4, and greedy flags and
generations are the same, which `tests/harness/test_prefix.py` shows for several architectures; in
bfloat16 they differ by as much as the stock model's do from one batch size to another, or from
float32. A free answer ends where the stock model ends it with one request a batch; in larger
batches that waits for the slowest row and then cuts. Sampling, settings of generation such as a
repetition penalty, NaN, encoder-decoders, and models that cannot be branched (state-space layers,
rotary frequencies that depend on the length of a pass) are left to the stock code; a warning says
so where it is the model that cannot.
"""

from hebench.harness.prefix.lm import PrefixLM

__all__ = ["PrefixLM"]
