"""What the new vocabulary and its stages buy once pre-training follows: controls of an adaptation.

    hebench adapt smollm2_he_cpu text=corpora out=RUN
    python benchmarks/extension.py RUN --arms original,time mean,time

RUN is a finished run of `hebench adapt`. Each arm is pre-trained by the run's own recipe, on its
corpus, and is measured on its held-out text and tasks; it starts from

- `original`: the base model with its own tokenizer;
- `mean`: the extended tokenizer, its new rows means of their old pieces' in both tables: neither
  distillation nor calibration;

and has

- `steps`: as many steps, of as many tokens, as the run's pre-training, whose distillation and
  calibration come on top;
- `time`: as many more steps as the run's distillation and calibration took seconds beside its
  pre-training (the fill of a step, and so its time, is the same for all arms);
- `text` (of `original` alone): as many words of each language as the run's pre-training, of which
  its tokenizer makes more tokens.

Differences are paired, passage by passage and item by item; their intervals are over documents and
items, one seed. The run is measured at the checkpoint that it chose, arms at their last. Arms are
folders below `--out`, resumable, and not run again once they are done.
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hebench.adapt.measure import measure, read_bits
from hebench.adapt.recipe import DEMO_MODEL, TINY_MODEL, Recipe
from hebench.board.compare_runs import compare_runs
from hebench.board.extract import extract
from hebench.board.read import read_run
from hebench.board.summary import interval_of
from hebench.config import build
from hebench.models import demo
from hebench.train import pretrain, tokenizer
from hebench.train.checkpoints import CheckpointRecord, save_model
from hebench.train.embeddings import grown, initial_rows, new_pieces
from hebench.train.frozen import open_model, open_tokenizer
from hebench.train.measure import difference
from hebench.train.pretrain import PretrainConfig
from hebench.train.stage import StageRecord, read_stage

ARMS = ("original,steps", "original,time", "original,text", "mean,steps", "mean,time")
ADAPTED = "pretrain"  # the point of the run that arms are compared with


class Bench:
    """The arms of one run, below one folder."""

    def __init__(self, run: Path, out: Path) -> None:
        """Read what the run was asked. Exits with a line if it is not finished."""
        asked = run / "recipe.json"
        if not asked.is_file() or not (run / "adapt.json").is_file():
            raise SystemExit(f"{run}: expected a finished run of `hebench adapt`, found none")
        content = json.loads(asked.read_text(encoding="utf-8"))
        self.recipe = build(Recipe, content, str(asked))
        self.run, self.out, self.corpus = run, out, run / "corpus"
        model = self.recipe.model
        if model == TINY_MODEL:  # which its run has made
            self.base = run / "base"
        else:
            self.base = demo.obtain() if model == DEMO_MODEL else Path(model).expanduser()

    def stage(self, name: str) -> StageRecord:
        """Return a stage's record."""
        record = read_stage(self.run / name)
        assert record is not None and record.finished, f"{name} of a finished run"
        return record

    def start(self, kind: str) -> Path:
        """Return the folder of the model that an arm starts from."""
        if kind == "original":
            return self.base
        folder: Path = self.out / "mean-rows"
        if not folder.exists():
            new = open_tokenizer(self.run / "tokenizer" / tokenizer.FOLDER)
            model = open_model(self.base, "fp32")
            table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
            pieces = new_pieces(open_tokenizer(self.base), new, len(table))
            model = grown(model, initial_rows(table, pieces), initial_rows(head, pieces))
            save_model(folder, model, new, CheckpointRecord(stage="tokenizer"))
        return folder

    def config(self, limit: str) -> PretrainConfig:
        """Return the run's pre-training, as long as an arm's limit says."""
        config, done = self.recipe.pretrain, self.stage(ADAPTED)
        steps, shares = float(done.metrics["steps"]), dict(config.shares)
        if limit == "time":
            before = sum(
                self.stage(name).metrics["training_seconds"] for name in ("distil", "calibrate")
            )
            steps *= 1 + before / done.metrics["training_seconds"]
        if limit == "text":
            adapted, base = (self.metrics(self.run / "scores" / name) for name in (ADAPTED, "base"))
            rows = {
                code: share * base[code]["tokens_per_word"] / adapted[code]["tokens_per_word"]
                for code, share in shares.items()
            }
            steps *= sum(rows.values())
            shares = {code: count / sum(rows.values()) for code, count in rows.items()}
        training = replace(config.training, steps=math.ceil(steps), passes=1.0)
        return replace(config, shares=shares, training=training)

    def metrics(self, folder: Path) -> Mapping[str, Any]:
        """Return what was measured into a folder, by language."""
        record = read_stage(folder)
        assert record is not None and record.finished, f"{folder} was measured"
        return record.metrics

    def arm(self, name: str) -> Path:
        """Return the folder of an arm's scores, run now if it is not there."""
        kind, limit = name.split(",")
        folder = self.out / name.replace(",", "-")
        config = self.config(limit)
        pretrain.run(config, model=self.start(kind), corpus=self.corpus, out=folder)
        measure(
            self.recipe.measure,
            model=folder / "model",
            name=f"{self.recipe.name} {name}",
            heldout=self.corpus / "heldout",
            limit=self.recipe.measure.limit_at_ends,
            out=folder / "scores",
        )
        return folder / "scores"

    def row(self, name: str, scores: Path, record: StageRecord | None) -> str:
        """Return a line of the table: what an arm is worth, and how much better the run is."""
        adapted = self.run / "scores" / ADAPTED
        found = self.metrics(scores)
        cells = [name, "", ""]
        if record is not None:
            seconds = record.metrics["training_seconds"]
            cells[1:] = [str(record.metrics["steps"]), f"{seconds:.0f}"]
        for code in found:
            text = f"{found[code]['bits_per_byte']:.3f}"
            if scores != adapted:
                gain = difference(read_bits(scores, code), read_bits(adapted, code))
                text += f", {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            cells.append(text)
        if not self.recipe.measure.tasks:
            return "| " + " | ".join(cells) + " |"
        points = (adapted, scores)
        runs = [extract(each / "tasks", model="run", added="2000-01-01") for each in points]
        paired = compare_runs(runs[0], runs[1], tasks=()).tasks
        for task, result in read_run(scores / "tasks").tasks.items():
            text = interval_of(result).text()
            if scores != adapted:
                pair = paired[task].paired
                ends = f"[{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"
                text += f", {100 * pair.difference:+.1f} {ends}"
            cells.append(text)
        return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run the arms that are missing, print all that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a finished folder of `hebench adapt`")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, help="folder of the arms; RUN/extension by default")
    options = parser.parse_args()
    bench = Bench(options.run, options.out or options.run / "extension")
    rows = [
        bench.row("base model", options.run / "scores" / "base", None),
        bench.row("the run", options.run / "scores" / ADAPTED, bench.stage(ADAPTED)),
    ]
    for name in options.arms:
        scores = bench.arm(name)
        rows.append(bench.row(name, scores, read_stage(scores.parent)))
    codes = list(bench.metrics(options.run / "scores" / "base"))
    measured = options.run / "scores" / "base" / "tasks"
    tasks = list(read_run(measured).tasks) if bench.recipe.measure.tasks else []
    heads = ["pre-trained", "steps", "seconds"]
    heads += [f"{code}: bits per byte, the run better by" for code in codes]
    heads += [f"{task}, the run better by" for task in tasks]
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
