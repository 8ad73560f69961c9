"""How long an evaluation takes: `hebench eval` against the stock `lm_eval run`, same scores.

    python benchmarks/evaluate.py MODEL --limit 8 --out runs/evaluate.json
    python benchmarks/evaluate.py MODEL --scaling
    HEBENCH_MIRROR=... python benchmarks/evaluate.py MODEL --tasks hebench_paper_heq:validation
    python benchmarks/evaluate.py MODEL --random 2048 24 --device cuda

Each task is run by both, each in a process of its own, one after the other; the stock harness at
every `--stock-batch-sizes`, of which the fastest counts. A row of the table:

- seconds of the whole process, and inside the model's three request functions (model time); of
  the latter the ratio of processor seconds, too, which a busy machine distorts less;
- tokens that went through the model's embedding, and the peak of resident memory, on a GPU of the
  memory that PyTorch allocated there;
- how far from the limit our model time is. The limit: the tokens of the prefix tree and of the
  answers, at the speed of a plain forward pass over 512 tokens (on a GPU over 1, 8 or 64 rows of
  them, whichever is fastest), measured in the same process;
- what the answers differ by: log-likelihoods (nats, the largest), generations, and the score.

With `--scaling` instead: one process, one question with shots, choices, items and the stock
harness's batch size varied in turn; tokens read and processor seconds of both, in some minutes.

`--random HIDDEN LAYERS` asks a random model of MODEL's architecture and tokenizer in that size
(2048 24 is that of SmolLM2-1.7B): how fast it is does not depend on what it knows.

Every finished run is written to `--out` at once, and not run again while it stands there. With
`--piece N` the stock side runs N items a process, for sets that take it hours: the pieces' model
times are added up, and one start to them, the mean of theirs. With `--sample K` it runs only K of
these pieces, evenly spread over the set: its times and tokens are then those of the whole set as
the pieces have them, ratios have a 95 % interval (Student's t over the pieces' seconds an item, for
a sample of a finite set), and answers are compared on these items. Ours runs the whole set in any
case. Quote ratios of one file only: they come from one machine.
"""

import argparse
import contextlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import scipy.stats

from hebench.files import write_atomically

TASKS = (
    "hebench_mini_sentiment,hebench_mini_nli,hebench_mini_winograd,hebench_mini_trivia,"
    "hebench_mini_grammar,hebench_mini_qa,hebench_mini_translation_en_he,"
    "hebench_mini_translation_he_en,hebench_mini_summarization,hebench_mini_math,"
    "hebench_mini_nikud"
)
PROBE_TOKENS = 512
KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
SCALES = {
    "shots": (0, 2, 8),
    "choices": (2, 4, 8),
    "items": (2, 8, 24),
    "batch": (1, 8, 24),  # of the stock harness; ours reckons in tokens
}
BASE = {"shots": 4, "choices": 3, "items": 4, "batch": 8}


# ------------------------------------------------------------------- inside a measured process


@contextlib.contextmanager
def counted(found: dict[str, Any]) -> Iterator[None]:
    """Count tokens and model time of lm-eval's HF models while the body runs, into `found`."""
    import torch
    from lm_eval.models.huggingface import HFLM

    from hebench.harness.prefix import PrefixLM

    found |= {"model_seconds": 0.0, "model_cpu_seconds": 0.0, "tokens": 0, "requests": 0}
    depth, models = [0], []

    def timed(ask: Any, kind: str) -> Any:
        def wrapped(self: Any, requests: list[Any], *rest: Any, **more: Any) -> Any:
            models[:] = [self]
            depth[0] += 1
            start, cpu = time.perf_counter(), time.process_time()
            try:
                return ask(self, requests, *rest, **more)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    found["model_seconds"] += time.perf_counter() - start
                    found["model_cpu_seconds"] += time.process_time() - cpu
                    found["requests"] += len(requests)
                    found["kind"] = kind

        return wrapped

    for owner in (HFLM, PrefixLM):
        for kind in KINDS:
            if kind in vars(owner):
                setattr(owner, kind, timed(vars(owner)[kind], kind))

    def count(module: Any, inputs: Any) -> None:
        if isinstance(module, torch.nn.Embedding) and depth[0]:
            found["tokens"] += inputs[0].numel()

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    yield
    hook.remove()
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if models and models[0].device.type == "cuda":
        found["peak_mib"] = torch.cuda.max_memory_allocated(models[0].device) / 2**20
    if models:
        found["tokens_per_second"] = forward_speed(models[0].model)
        if isinstance(models[0], PrefixLM) and models[0].branches is not None:
            found["needed"] = models[0].branches.tokens_needed


def forward_speed(model: Any) -> float:
    """Return the tokens a second of a plain forward pass without logits, the best of some."""
    import torch

    gpu = model.device.type == "cuda"
    best = 0.0
    for rows in (1, 8, 64) if gpu else (1,):  # which of them fills the device
        ids = torch.arange(PROBE_TOKENS, device=model.device).repeat(rows, 1) + 5
        with torch.inference_mode():
            for _ in range(4):  # the first is not fair
                start, cpu = time.perf_counter(), time.process_time()
                model(ids, use_cache=False, logits_to_keep=1)
                if gpu:
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - start
                if not gpu:  # whose processor only waits
                    seconds = min(seconds, time.process_time() - cpu)
                best = max(best, ids.numel() / seconds)
    return best


def measured(side: str, job: dict[str, Any], out: Path) -> None:
    """Run one side in this process and write what it took to `out`/measured.json."""
    found: dict[str, Any] = {}
    limit = ["--limit", str(job["limit"])] if job["limit"] else []
    if "items" in job:  # a piece
        limit = ["--samples", json.dumps({job["task"]: list(range(*job["items"]))})]
    with counted(found):
        if side == "ours":
            from hebench.cli import main

            split = ["--split", job["split"]] if job["split"] else []
            sys.argv = ["hebench", "eval", job["model"], "--tasks", job["task"], *limit, *split]
            sys.argv += ["--dtype", job["dtype"], "--device", job["device"]]
            sys.argv += ["--backend", "prefix", "--out", str(out)]
        else:
            from lm_eval.__main__ import cli_evaluate as main

            from hebench.harness.tasks import tasks_folder

            model = f"pretrained={job['model']},dtype={job['dtype']}"
            sys.argv = ["lm_eval", "run", "--model", "hf", "--model_args", model]
            sys.argv += ["--tasks", job["task"], "--include_path", str(tasks_folder()), *limit]
            sys.argv += ["--batch_size", str(job["batch"]), "--device", job["device"]]
            sys.argv += ["--log_samples", "--output_path", str(out)]
            if job["split"]:
                sys.argv += ["--metadata", json.dumps({"split": job["split"]})]
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
    (out / "measured.json").write_text(json.dumps(found), encoding="utf-8")


# ---------------------------------------------------------------------------- around them


def random_model(model: str, hidden: int, layers: int, folder: Path) -> str:
    """Write a random model of another's architecture and tokenizer, in bfloat16; return `folder`.

    hidden: size of its states, of which every head takes as much as there, with keys of its own.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        config = AutoConfig.from_pretrained(model)
        size = config.hidden_size // config.num_attention_heads
        if hidden % size:
            raise SystemExit(f"--random: expected a multiple of {size}, found {hidden}")
        config.num_attention_heads = config.num_key_value_heads = hidden // size
        config.intermediate_size = 4 * hidden
        config.hidden_size, config.num_hidden_layers, config.layer_types = hidden, layers, None
        torch.manual_seed(0)
        AutoTokenizer.from_pretrained(model).save_pretrained(folder)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # where it is faster
            network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        network.save_pretrained(folder)
    return str(folder)


def run(side: str, job: dict[str, Any]) -> dict[str, Any]:
    """Return the measurements and answers of one side, run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--measured", side, json.dumps(job), folder]
        start = time.perf_counter()
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
        )
        seconds = time.perf_counter() - start
        file = Path(folder) / "measured.json"
        if done.returncode or not file.is_file():
            raise SystemExit(f"{side} failed on {job['task']}: {done.stderr[-1500:]}")
        found = json.loads(file.read_text(encoding="utf-8"))
        return found | {"seconds": seconds, "side": side, "job": job} | answers(Path(folder))


def answers(folder: Path) -> dict[str, Any]:
    """Return the score of a run and what the model answered, item by item."""
    (samples,) = folder.rglob("samples_*.jsonl")
    items = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    items.sort(key=lambda item: item["doc_id"])
    scores = [item["score"] for item in items if item.get("score") is not None]
    responses = [item["resps"] for item in items]
    mean = sum(scores) / max(len(scores), 1)
    return {"score": mean, "scored": len(scores), "answers": responses}


def joined(pieces: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """Return the run of `count` items that its pieces make, be they all of it or a sample.

    Model times and tokens add up (of a sample, to those of `count` items), and one start, the mean
    of theirs. `places` are the items that `answers` are of; `off` are the half widths of the model
    times' 95 % intervals, as shares of them (0 where all is there).
    """
    pieces = sorted(pieces, key=lambda one: one["job"]["items"])
    whole = pieces[0] | {"answers": [answer for one in pieces for answer in one["answers"]]}
    whole["places"] = [place for one in pieces for place in range(*one["job"]["items"])]
    share = len(whole["places"]) / count
    whole["off"] = {}
    for key in ("model_seconds", "model_cpu_seconds"):
        whole[key] = sum(one[key] for one in pieces) / share
        whole["off"][key] = 0.0 if share == 1 else off_by(pieces, key, share)
    whole["tokens"] = round(sum(one["tokens"] for one in pieces) / share)
    whole["scored"] = sum(one["scored"] for one in pieces)
    starts = [one["seconds"] - one["model_seconds"] for one in pieces]
    whole["seconds"] = whole["model_seconds"] + sum(starts) / len(starts)
    whole["peak_mib"] = max(one["peak_mib"] for one in pieces)
    scores = sum(one["score"] * one["scored"] for one in pieces)
    return whole | {"score": scores / max(whole["scored"], 1)}


def off_by(pieces: list[dict[str, Any]], key: str, share: float) -> float:
    """Return the half width of the interval of the mean seconds an item, as a share of the mean."""
    each = [one[key] / len(one["answers"]) for one in pieces]
    error = statistics.stdev(each) / math.sqrt(len(each)) * math.sqrt(1 - share)
    return float(scipy.stats.t.ppf(0.975, len(each) - 1)) * error / statistics.mean(each)


def spread(count: int, size: int, sample: int | None) -> list[list[int]]:
    """Return the first and last item (exclusive) of all pieces of `size`, or of `sample` of them.

    >>> spread(1000, 50, 4)
    [[0, 50], [250, 300], [500, 550], [750, 800]]
    """
    pieces = [[start, min(start + size, count)] for start in range(0, count, size)]
    if sample is None or sample >= len(pieces):
        return pieces
    return [pieces[place * len(pieces) // sample] for place in range(sample)]


def differences(ours: dict[str, Any], stock: dict[str, Any]) -> tuple[float, int, int]:
    """Return the largest difference of log-likelihoods, and how many other answers differ."""
    largest, changed, total = 0.0, 0, 0
    pairs = zip(ours["answers"], stock["answers"], strict=True)
    for mine, theirs in ((a, b) for one, two in pairs for a, b in zip(one, two, strict=True)):
        for left, right in zip(mine, theirs, strict=True):
            total += 1
            if isinstance(left, list):  # [log-likelihood, greedy], as text
                largest = max(largest, apart(float(left[0]), float(right[0])))
                changed += left[1] != right[1]
            elif ours["kind"] == "generate_until":
                changed += left != right
            else:
                largest = max(largest, apart(float(left), float(right)))
    return largest, changed, total


def apart(left: float, right: float) -> float:
    """Return by how much two log-likelihoods differ; one that is no number is like no other."""
    if math.isnan(left) or math.isnan(right):
        return 0.0 if math.isnan(left) and math.isnan(right) else math.inf
    return abs(left - right)


# -------------------------------------------------------------------------------- scaling


def questions(setting: dict[str, int], docs: list[dict[str, Any]]) -> list[Any]:
    """Return a request for each choice of each item; the shots come from the end of `docs`."""
    from lm_eval.api.instance import Instance

    labels = [word for doc in docs for word in doc["text"].split()]
    shown = docs[len(docs) - setting["shots"] :]
    shots = [f"טקסט: {doc['text']}\nרגש: {doc['choices'][doc['label']]}\n\n" for doc in shown]
    return [
        Instance(
            request_type="loglikelihood",
            doc=doc,
            arguments=(f"{''.join(shots)}טקסט: {doc['text']}\nרגש:", f" {label}"),
            idx=number,
        )
        for doc in docs[: setting["items"]]
        for number, label in enumerate(list(dict.fromkeys(labels))[: setting["choices"]])
    ]


def scaling(model: str, dtype: str, device: str) -> str:
    """Return a Markdown table: what further shots, choices, items and rows cost on either side."""
    import torch
    from lm_eval.models.huggingface import HFLM

    from hebench.harness.prefix import PrefixLM
    from hebench.harness.tasks import load_tasks

    (task,) = load_tasks(("hebench_mini_sentiment",))["tasks"].values()
    docs = list(task.eval_docs)
    ours = PrefixLM(pretrained=model, dtype=dtype, device=device)
    stock = HFLM(pretrained=ours.model, tokenizer=ours.tokenizer)
    assert ours.branches is not None, "this model cannot be branched"
    read = [0]

    def count(module: Any, inputs: Any) -> None:
        if isinstance(module, torch.nn.Embedding):
            read[0] += inputs[0].numel()

    lines = ["| varied | | tokens: stock | ours | ratio | CPU s: stock | ours | ratio |"]
    lines.append("|" + " --- |" * 8)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    for varied, values in SCALES.items():
        for value in values:
            setting = BASE | {varied: value}
            requests = questions(setting, docs)
            stock.batch_size_per_gpu = setting["batch"]
            tokens, seconds = [], []
            for side in (stock, ours):
                read[0], start = 0, time.process_time()
                side.loglikelihood(requests, disable_tqdm=True)
                tokens.append(read[0])
                seconds.append(time.process_time() - start)
            print(f"{varied} {value}", file=sys.stderr, flush=True)
            lines.append(
                f"| {varied} | {value} | {tokens[0]:,} | {tokens[1]:,} "
                f"| {tokens[0] / tokens[1]:.1f} | {seconds[0]:.1f} | {seconds[1]:.1f} "
                f"| {seconds[0] / seconds[1]:.1f} |"
            )
    hook.remove()
    lines += ["", f"where not varied: {', '.join(f'{n} {name}' for name, n in BASE.items())}"]
    return "\n".join(lines)


# ------------------------------------------------------------------------------- the table


HEAD = (
    "task | requests | whole: stock s | ours s | ratio | model: stock s | ours s | ratio | by CPU "
    "| tokens: stock | ours | memory ratio | times the limit | answers that differ | score"
)


def row(ours: dict[str, Any], stock: dict[str, Any]) -> list[str]:
    """Return the cells of one task's row."""
    places = stock.get("places", range(len(ours["answers"])))
    largest, changed, total = differences(
        ours | {"answers": [ours["answers"][place] for place in places]}, stock
    )
    # A model that shares nothing is answered the stock way, and has no tree.
    least = ours.get("needed", math.nan) / ours["tokens_per_second"]
    gpu = ours["job"]["device"] != "cpu"
    seconds = min(ours["model_seconds"], math.inf if gpu else ours["model_cpu_seconds"])
    same = "same" if math.isclose(ours["score"], stock["score"], abs_tol=1e-9) else "not the same"
    sample = len(places) < len(ours["answers"])
    if sample:  # whose score is of some items only
        same = f"stock on {len(places)} of {len(ours['answers'])} items"

    def times(name: str) -> str:
        ratio = stock[name] / ours[name]
        if not sample:
            return f"{ratio:.1f}"
        off = stock["off"].get(name, stock["off"]["model_seconds"])
        return f"{ratio:.1f} [{ratio * (1 - off):.1f}, {ratio * (1 + off):.1f}]"

    return [
        ours["job"]["task"] + (f" ({ours['job']['split']})" if ours["job"]["split"] else ""),
        f"{ours['requests']}",
        f"{stock['seconds']:.1f}",
        f"{ours['seconds']:.1f}",
        times("seconds"),
        f"{stock['model_seconds']:.1f}",
        f"{ours['model_seconds']:.1f}",
        times("model_seconds"),
        "" if gpu else times("model_cpu_seconds"),
        f"{stock['tokens']:,}",
        f"{ours['tokens']:,}",
        f"{ours['peak_mib'] / stock['peak_mib']:.2f}",
        "" if math.isnan(least) else f"{seconds / least:.2f}",
        f"{changed} of {total}" + (f", {largest:.2g} nats" if largest else ""),
        f"{ours['score']:.4f}, {same}",
    ]


def whole_runs(stock: list[dict[str, Any]], ours: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the stock side's runs of what `ours` was asked, pieces joined.

    All pieces of it, or two and more that are a sample (`spread`); of others no run can be made.
    """
    same = [one for one in stock if ours["job"].items() <= (one["job"] | {"batch": 0}).items()]
    whole = [one for one in same if "items" not in one["job"]]
    pieces: dict[int, list[dict[str, Any]]] = {}
    for one in same:
        if "items" in one["job"]:
            pieces.setdefault(one["job"]["batch"], []).append(one)
    count = len(ours["answers"])
    for some in pieces.values():
        places = sorted(one["job"]["items"] for one in some)
        evenly = places == spread(count, places[0][1] - places[0][0], len(places))
        if evenly and (len(places) > 1 or places == [[0, count]]):
            whole.append(joined(some, count))
    return whole


def table(runs: list[dict[str, Any]]) -> str:
    """Return the Markdown table of all tasks that both sides have run, with geometric means."""
    rows: list[list[str]] = []
    ratios: dict[str, list[tuple[float, float]]] = {}
    for ours in (one for one in runs if one["side"] == "ours"):
        stock = whole_runs([one for one in runs if one["side"] == "stock"], ours)
        if not stock:
            continue
        best = min(stock, key=lambda one: one["seconds"])
        rows.append(row(ours, best))
        kind = "generated" if ours["kind"] == "generate_until" else "scored"
        pair = best["seconds"] / ours["seconds"], best["model_seconds"] / ours["model_seconds"]
        ratios.setdefault(kind, []).append(pair)
    lines = [f"| {HEAD} |", "|" + " --- |" * (HEAD.count("|") + 1)]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    for kind, pairs in ratios.items():
        whole, model = (
            math.exp(sum(map(math.log, values)) / len(values))
            for values in zip(*pairs, strict=True)
        )
        lines.append("")
        lines.append(
            f"{kind} tasks, geometric mean of {len(pairs)}: whole process {whole:.1f}, "
            f"model time {model:.1f}"
        )
    return "\n".join(lines)


def asked(runs: list[dict[str, Any]], side: str, job: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return the run of a job, from `runs` or else run now and written to `out` with them."""
    for one in runs:
        if one["side"] == side and one["job"] == job:
            return one
    found = [job["task"], side, *(str(job[key]) for key in ("batch", "items") if job.get(key))]
    print(*found, file=sys.stderr, flush=True)
    runs.append(run(side, job))
    write_atomically(out, json.dumps(runs, ensure_ascii=False))
    return runs[-1]


def main() -> None:
    """Run what is missing in the file and print the table."""
    if sys.argv[1:2] == ["--measured"]:
        measured(sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tasks", default=TASKS, help="names, comma-separated; name:split")
    parser.add_argument("--limit", type=int, help="items a task; all without it")
    parser.add_argument("--stock-batch-sizes", default="1,8", help="comma-separated")
    parser.add_argument("--piece", type=int, help="items of the stock side in one process")
    parser.add_argument("--sample", type=int, help="pieces of the stock side; all without it")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--random", type=int, nargs=2, metavar=("HIDDEN", "LAYERS"), help="a model of that size"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--scaling", action="store_true", help="the table of what further shots cost"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/evaluate.json"))
    chosen = parser.parse_args()
    for name, least in (("limit", 1), ("piece", 1), ("sample", 2)):
        if (value := getattr(chosen, name)) is not None and value < least:
            parser.error(f"--{name}: expected at least {least}, found {value}")
    if chosen.sample and not chosen.piece:
        parser.error("--sample: expected --piece N beside it, of which it takes some; found none")
    if chosen.random:
        kind = Path(chosen.model).name
        folder = chosen.out.parent / "random-{}-{}-{}".format(kind, *chosen.random)
        chosen.model = random_model(chosen.model, *chosen.random, folder)
    if chosen.scaling:
        print(scaling(chosen.model, chosen.dtype, chosen.device))
        return
    runs = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.is_file() else []
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    unasked: list[dict[str, Any]] = []  # pieces in the file that are none of this sample
    for name in chosen.tasks.split(","):
        task, _, split = name.partition(":")
        job = {"model": chosen.model, "task": task, "split": split, "limit": chosen.limit}
        job |= {"dtype": chosen.dtype, "device": chosen.device, "batch": 0}
        ours = asked(runs, "ours", job, chosen.out)
        for batch in map(int, chosen.stock_batch_sizes.split(",")):
            stock = job | {"batch": batch}
            if not chosen.piece:
                asked(runs, "stock", stock, chosen.out)
                continue
            pieces = spread(len(ours["answers"]), chosen.piece, chosen.sample)
            for items in pieces:
                asked(runs, "stock", stock | {"items": items}, chosen.out)
            unasked += [
                one
                for one in runs
                if one["job"].get("items") not in [None, *pieces]
                and one["job"] | {"items": None} == stock | {"items": None}
            ]
    print(table([one for one in runs if one not in unasked]))


if __name__ == "__main__":
    main()
