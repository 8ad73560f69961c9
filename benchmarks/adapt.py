"""What distillation buys: bits per byte after calibration, against every control, over seeds.

    python benchmarks/adapt.py runs/he/corpus runs/he/tokenizer/tokenizer --out runs/adapt.json

All arms are calibrated by the same code on the same passages in the same order:

- `distilled`: the new pieces' input rows distilled first, for `--distil-seconds`, and their rows
  in the head worked out from what the teacher could write;
- `mean`, `random`: the same extended tokenizer, new rows from the old pieces' mean or at random;
- `original,time`, `original,text`: the base model with its own tokenizer, once for the time that
  `distilled` had and once for its text, which takes more than twice as long;
- `mean,whole`, `original,whole`: calibrated as long as distillation and calibration together.

Calibration trains both tables for `--calibrate-seconds`, then reads for `--head-seconds` and fits
the head to what it read; the fit comes on top and is in the seconds that are printed. `mean` and
`random` do as many steps of both as `distilled`: the same text, and the same time, since the work
of a step is the same. With `--steps` all three stages are counted in steps instead, and arms are
compared at equal text alone, which is the same on any machine.

Held-out text is measured apart from the stages, on the same passages for all; differences are
paired, their intervals are over documents. Every arm is written to `--out` when it is done, and not
run again while it stands there. Quote numbers of one file only.
"""

import argparse
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hebench.files import sha256_of_json, write_atomically
from hebench.models import demo
from hebench.train import calibrate, distil
from hebench.train.checkpoints import CheckpointRecord, model_sha256, save_model
from hebench.train.embeddings import Initial, grown, initial_rows, new_pieces
from hebench.train.frozen import open_model, open_tokenizer
from hebench.train.measure import Bits, bits_of, difference, summary
from hebench.train.passages import held_out
from hebench.train.settings import Precision
from hebench.train.texts import corpus_sha256

LANGUAGES = ("he", "en")
BY_TIME = ("original,time", "mean,whole", "original,whole")
ARMS = ("distilled", "mean", "random", "original,text", *BY_TIME)


class Results:
    """The arms that are done, in one file."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Read the file, if there is one; it must be of the same settings."""
        self.path = path
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if found and found["settings"] != settings:
            raise SystemExit(f"{path} holds runs with other settings; choose another --out")
        self.content = found or {"settings": settings, "arms": {}}

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what is known of an arm, or None."""
        found: dict[str, Any] | None = self.content["arms"].get(name)
        return found

    def put(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        """Write an arm down and return it."""
        self.content["arms"][name] = value
        write_atomically(self.path, json.dumps(self.content, ensure_ascii=False, indent=1) + "\n")
        return value


class Bench:
    """The arms of one seed after the other."""

    def __init__(self, options: argparse.Namespace, results: Results) -> None:
        """Take the command line's options and where results go."""
        self.options, self.results = options, results
        self.base = options.model or demo.obtain()
        made_of = sha256_of_json(results.content["settings"])[:8]
        self.work = options.out.parent / f"{options.out.stem}-work-{made_of}"

    def measured(self, folder: Path) -> dict[str, Any]:
        """Return the held-out bits of the model in a folder, by language."""
        model, tokenizer = open_model(folder, "fp32", self.options.threads), open_tokenizer(folder)
        found = {}
        words = {"he": self.options.heldout_words, "en": 4 * self.options.heldout_words}
        for code in LANGUAGES:
            passages = held_out(
                self.options.corpus / "heldout" / code, words=60, per_source_words=words[code]
            )
            bits = bits_of(model, tokenizer, passages)
            found[code] = asdict(bits) | {"bits": bits.bits.tolist(), "size": bits.size.tolist()}
        return found

    def start(self, kind: Initial, seed: int) -> Path:
        """Return the folder of the extended model without any training."""
        seed = seed if kind == "random" else 0
        folder: Path = self.work / f"start-{kind}-{seed}"
        if not folder.exists():
            old, new = open_tokenizer(self.base), open_tokenizer(self.options.tokenizer)
            model = open_model(self.base, "fp32", self.options.threads)
            table = model.get_input_embeddings().weight
            rows = initial_rows(table, new_pieces(old, new, len(table)), kind, seed)
            head = rows
            if kind == "random":  # not twice the same draw
                head = initial_rows(table, [[0]] * len(rows), kind, seed + 1000)
            save_model(folder, grown(model, rows, head), new, CheckpointRecord(stage="tokenizer"))
        return folder

    def distilled(self, seed: int) -> Path:
        """Return the folder of the distilled model, measured before calibration."""
        options = self.options
        out: Path = self.work / f"distil-{seed}"
        config = distil.DistilConfig(
            language="he",
            passages=options.distil_passages,
            steps=options.steps[0] if options.steps else None,
            seconds=None if options.steps else options.distil_seconds,
            precision=options.precision,
            threads=options.threads,
            seed=seed,
        )
        record = distil.run(
            config,
            model=self.base,
            tokenizer=options.tokenizer,
            corpus=options.corpus,
            out=out,
        )
        if not self.results.get(f"untrained distilled {seed}"):
            found = {"metrics": record.metrics, "heldout": self.measured(out / distil.MODEL)}
            self.results.put(f"untrained distilled {seed}", found)
        return out / distil.MODEL

    def arm(self, name: str, seed: int, model: Path, **limits: Any) -> dict[str, Any]:
        """Return one calibrated arm, run now or read from the file."""
        key = f"{name} {seed}"
        if found := self.results.get(key):
            return found
        print(f"{time.strftime('%H:%M:%S')} {key}", flush=True)
        config = calibrate.CalibrateConfig(
            shares={"he": 1 - self.options.english, "en": self.options.english},
            passages=self.options.passages,
            head_language="he",
            heldout_words=1,  # measured below instead, on more
            precision=self.options.precision,
            threads=self.options.threads,
            seed=seed,
            **limits,
        )
        out = self.work / f"calibrate-{key.replace(' ', '-').replace(',', '')}"
        record = calibrate.run(config, model=model, corpus=self.options.corpus, out=out)
        result = self.results.put(
            key, {"metrics": record.metrics, "heldout": self.measured(out / calibrate.MODEL)}
        )
        shutil.rmtree(out)  # a model of half a gigabyte
        return result

    def times(self, more: float) -> dict[str, float | None]:
        """Return the limits of a calibration that has so many seconds more than `distilled`."""
        training, reading = self.options.calibrate_seconds, self.options.head_seconds
        longer = 1 + more / (training + reading)
        return {"seconds": longer * training, "head_seconds": longer * reading or None}

    def untrained(self) -> None:
        """Measure what no seed changes: the base model, and the extended one with mean rows."""
        for name, folder in (("original", self.base), ("mean", self.start("mean", 0))):
            if not self.results.get(f"untrained {name}"):
                self.results.put(f"untrained {name}", {"heldout": self.measured(folder)})

    def seed(self, seed: int) -> None:
        """Run the arms of one seed that were asked for; `distilled` first, whose steps count."""
        names = self.options.arms
        if all(self.results.get(f"{name} {seed}") for name in ("distilled", *names)):
            return
        limits: dict[str, Any] = self.times(0.0)
        if self.options.steps:
            limits = dict(zip(("steps", "head_steps"), self.options.steps[1:], strict=True))
        first = self.results.get(f"distilled {seed}")
        if not first:
            student = self.distilled(seed)
            first = self.arm("distilled", seed, student, **limits)
            shutil.rmtree(student.parent)
        steps = {name: first["metrics"][name] or None for name in ("steps", "head_steps")}
        for name in names:
            kind, _, limit = name.partition(",")
            if kind == "distilled":
                continue
            model = self.base if kind == "original" else self.start(kind, seed)
            if limit == "time":
                self.arm(name, seed, model, **limits)
            elif limit == "whole":
                self.arm(name, seed, model, **self.times(self.options.distil_seconds))
            else:
                self.arm(name, seed, model, **steps)
        shutil.rmtree(self.work / f"start-random-{seed}", ignore_errors=True)


def bits_in(arm: dict[str, Any], code: str) -> Bits:
    """Return stored bits as they were measured."""
    found = arm["heldout"][code]
    return Bits(
        bits=np.array(found["bits"]),
        size=np.array(found["size"]),
        sources=tuple(found["sources"]),
        documents=tuple(found["documents"]),
        tokens=found["tokens"],
        words=found["words"],
    )


def spread(values: list[float], digits: int = 3) -> str:
    """Return the mean, with the least and the greatest of several."""
    text = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_calibrated(results: Results, seeds: list[int]) -> None:
    """Print a row for each arm: bits per byte over seeds, and by how much `distilled` is better."""
    print(
        "\n| calibrated | Hebrew bits per byte | distilled better by | English | seconds | words |"
    )
    print("|---|---|---|---|---|---|")
    for name in ARMS:
        arms = {seed: results.get(f"{name} {seed}") for seed in seeds}
        done = {seed: arm for seed, arm in arms.items() if arm}
        if not done:
            continue
        cells: dict[str, list[float]] = {}
        gains = []
        for seed, arm in done.items():
            for code in LANGUAGES:
                value = summary(bits_in(arm, code))["bits_per_byte"]
                cells.setdefault(code, []).append(value)
            metrics = arm["metrics"]
            cells.setdefault("seconds", []).append(metrics["training_seconds"])
            cells.setdefault("words", []).append(metrics["training_words"])
            best = results.get(f"distilled {seed}")
            if best and name != "distilled":
                found = difference(bits_in(arm, "he"), bits_in(best, "he"))
                gains.append(f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]")
        print(
            f"| {name} | {spread(cells['he'])} | {'; '.join(gains)} | {spread(cells['en'])} "
            f"| {spread(cells['seconds'], 0)} | {spread(cells['words'], 0)} |"
        )


def print_untrained(results: Results, seeds: list[int]) -> None:
    """Print what stands before calibration: bits per byte, and how near the student came."""
    print("\n| before calibration | Hebrew bits per byte | tokens per word | relative error |")
    print("|---|---|---|---|")
    for name in ("original", "mean", *(f"distilled {seed}" for seed in seeds)):
        arm = results.get(f"untrained {name}")
        if not arm:
            continue
        found, error = summary(bits_in(arm, "he")), ""
        if metrics := arm.get("metrics"):
            initial = metrics["relative_error_initial"]
            ratio = metrics["relative_error"] / initial
            error = f"{metrics['relative_error']:.3f}, {ratio:.3f} of mean's {initial:.3f}"
        low, high = found["bits_per_byte_low"], found["bits_per_byte_high"]
        print(
            f"| {name} | {found['bits_per_byte']:.3f} [{low:.3f}, {high:.3f}] "
            f"| {found['tokens_per_word']:.2f} | {error} |"
        )


def main() -> None:
    """Run what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path, help="with train/ and heldout/")
    parser.add_argument("tokenizer", type=Path, help="the extended one")
    parser.add_argument("--model", type=Path, help="the base model; the demo model by default")
    parser.add_argument("--out", type=Path, default=Path("runs/adapt.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="auto", help="of the frozen body"
    )
    parser.add_argument("--distil-seconds", type=float, default=180.0)
    parser.add_argument("--calibrate-seconds", type=float, default=60.0)
    parser.add_argument("--head-seconds", type=float, default=240.0)
    parser.add_argument(
        "--steps",
        type=int,
        nargs=3,
        metavar=("DISTIL", "TRAIN", "READ"),
        help="of the stages, instead of their seconds",
    )
    parser.add_argument("--distil-passages", type=int, default=4000)
    parser.add_argument("--passages", type=int, default=8000, help="of calibration")
    parser.add_argument("--english", type=float, default=0.15, help="share of the passages")
    parser.add_argument("--heldout-words", type=int, default=400, help="of each Hebrew source")
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        help="all that fit by default, but for those with all time",
    )
    options = parser.parse_args()
    if not options.arms:
        usual = ("distilled", "mean", "random", "original,time", "original,text")
        options.arms = [name for name in usual if not (options.steps and name in BY_TIME)]
    elif options.steps and (by_time := set(options.arms) & set(BY_TIME)):
        parser.error(f"{min(by_time)} compares by time, --steps by text: leave one of them out")
    named = (
        "threads",
        "precision",
        "steps",
        "distil_seconds",
        "distil_passages",
        "calibrate_seconds",
        "head_seconds",
        "passages",
        "english",
        "heldout_words",
    )
    settings = {name: getattr(options, name) for name in named} | {
        "tokenizer": sha256_of_json((options.tokenizer / "tokenizer.json").read_text("utf-8")),
        "corpus": corpus_sha256(options.corpus / "train"),
        "heldout": corpus_sha256(options.corpus / "heldout"),
        "model": model_sha256(options.model or demo.obtain()),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results = Results(options.out, settings)
    bench = Bench(options, results)
    bench.untrained()
    for seed in options.seeds:
        bench.seed(seed)
    print_untrained(results, options.seeds)
    print_calibrated(results, options.seeds)


if __name__ == "__main__":
    main()
