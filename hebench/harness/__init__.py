"""Tasks and a model in, a run folder out: the only package that imports lm_eval.

    hebench eval ~/models/smollm2 --tasks hebench_mini --out runs/smollm2 --limit 20

What it adds to `lm_eval run`, on the same tasks with the same scores:

- its own task index, so that the harness's 14,000 files are not read first (15 s);
- answers are logged as they come (`answers.jsonl`), so that an interrupted evaluation goes on
  where it was; a log serves one model and one set of settings only;
- files are written aside, read back and checked, and moved in place together; `run.json` last;
- a task file that does not parse is an error (lm-eval drops it without a word).

`tasks.py` finds, checks and loads tasks; `models.py` identifies and loads what answers;
`answers.py` keeps the answers; `run.py` puts them together. `prefix/` computes once what prompts
have in common; `served.py` is a chat model behind a server. `check.py` finds faults in task files;
`judge.py` has summaries judged by a model.
"""
