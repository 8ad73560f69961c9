"""The corpus stage, phase by phase.

    words      the list of frequent words, counted on the reference (unless it is given as a list)
    clean      read, edit, refuse, remove benchmark items, write; signatures; held-out candidates
    pairs      documents that agree in a band
    clusters   of duplicates, all but one of each to be removed
    kept       without duplicates, what is held out and what is close to it
    mix        the wanted words of each source and language

A phase is a datatrove pipeline of `tasks` tasks; between two phases this process adds up what the
tasks wrote. A run that was cut off goes on at the first task that is not complete.

    run(CorpusConfig(language="he", inputs={...}), out=Path("runs/he/corpus"))
"""

import json
import shutil
from collections import Counter
from dataclasses import astuple
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hebench.config import plain
from hebench.data.corpora import corpus_files
from hebench.data.evaluated import evaluation_items
from hebench.errors import DataError
from hebench.files import sha256_of, sha256_of_json, write_atomically, write_bytes_atomically
from hebench.train.corpus.blocks import counts, documents, executors, minhash, rules
from hebench.train.corpus.config import CorpusConfig, Input
from hebench.train.corpus.inputs import Part, input_parts, unread_files
from hebench.train.corpus.refusals import add_word_lists, read_word_list, write_word_list
from hebench.train.corpus.report import write_report
from hebench.train.corpus.selection import Candidate, hold_out, limits
from hebench.train.corpus.tally import Tally, read_tallies, require_text
from hebench.train.stage import StageRecord, open_stage, read_stage
from hebench.train.texts import corpus_sha256, source_of

HELDOUT_SHARE = 0.5  # of a held-out passage's 12-word runs: a document with so many is close to it
_PHASES = 6
_BENCHMARK, _ABSENT = "benchmark.json", "absent.json"  # in work/: the items, the sets not there


def run(config: CorpusConfig, *, out: Path) -> StageRecord:
    """Make `out` a corpus folder and return the stage's record; at once if it is one already.

    Raises DataError for input that cannot be read or of which nothing is left, ConfigError for
    a folder that holds another corpus or settings that cannot be carried out.
    """
    parts, work = input_parts(config), out / "work"
    items, absent, benchmark = _benchmark(config, out)
    with open_stage(out, "corpus", config, _inputs(config, benchmark)) as stage:
        if not stage.record.finished:
            write_atomically(work / _ABSENT, json.dumps(absent))
            write_atomically(work / _BENCHMARK, json.dumps(items, ensure_ascii=False))
            with tqdm(total=_PHASES, desc="corpus", unit="phase", disable=None) as bar:
                metrics = _Run(config, parts, out, bar).all(absent)
            stage.finish(metrics)
        # Last, so that a run that is cut off here has its record already.
        shutil.rmtree(work, ignore_errors=True)
        return stage.record


def _benchmark(config: CorpusConfig, out: Path) -> tuple[list[list[Any]], list[str], str]:
    """Return the evaluation items to look for, what the cache lacks, and a SHA-256 of the items.

    A corpus that was begun, or is done, keeps those that it began with: a set that came into the
    cache since then makes no other corpus of it.
    """
    record, work = read_stage(out), out / "work"
    if record and record.config == plain(config):
        if record.finished:
            return [], [], record.inputs["benchmark"]
        if (work / _BENCHMARK).is_file() and (work / _ABSENT).is_file():
            items, absent = (
                json.loads((work / name).read_text(encoding="utf-8"))
                for name in (_BENCHMARK, _ABSENT)
            )
            return items, absent, sha256_of_json(items)
    found, absent = evaluation_items(config.benchmark_sets)
    items = [list(astuple(item)) for item in found]
    return items, absent, sha256_of_json(items)


def _inputs(config: CorpusConfig, benchmark: str) -> dict[str, str]:
    """Return a SHA-256 of everything that is read; a dataset's revision stands for itself."""
    read = {
        name: corpus_sha256(given.path) if given.path else f"{given.dataset}@{given.revision}"
        for name, given in config.inputs.items()
    }
    if config.reference and _is_list(config.reference):
        read_word_list(config.reference, config.frequent_words)  # or say what is wrong with it
        read["reference"] = sha256_of(config.reference)
    elif config.reference:
        read["reference"] = corpus_sha256(config.reference)
    return {**read, "benchmark": benchmark}


def _is_list(reference: Path) -> bool:
    return reference.suffix == ".tsv"


class _Run:
    """One run of all phases, in one folder."""

    def __init__(self, config: CorpusConfig, parts: list[Part], out: Path, bar: Any) -> None:
        """bar: advanced by one for each phase."""
        self.config, self.parts, self.out, self.bar = config, parts, out, bar
        self.work = out / "work"
        # A dataset is shared out to any number of tasks, a file is not.
        only_files = all(part.path for part in parts)
        self.tasks = min(config.tasks, len(parts)) if only_files else config.tasks

    def all(self, absent: list[str]) -> dict[str, Any]:
        """Run all phases, write the reports and return the metrics."""
        self._words()
        tally = self._clean()
        heldout = self._hold_out(tally)
        self._keep(heldout)
        self._mix()
        whole = read_tallies(self.work.glob("*/*.tally.json"))
        unread = unread_files(self.config)
        return write_report(self.out, self.config, whole, heldout, absent=absent, unread=unread)

    def _phase(self, name: str, steps: list[Any], tasks: int | None = None) -> None:
        executors.execute(self.config, name, steps, tasks or self.tasks, self.out / "logs")
        self.bar.update(1)

    def _inputs_by_group(self) -> dict[str, Input]:
        """Return the input of each `language/source`."""
        given = self.config.inputs
        return {
            f"{given[part.input].language}/{part.source}": given[part.input] for part in self.parts
        }

    def _words(self) -> None:
        """Write the list of frequent words to work/words.tsv."""
        config, target = self.config, self.work / "words.tsv"
        reference = config.reference
        if reference and _is_list(reference):
            write_word_list(
                target, read_word_list(reference, config.frequent_words), config.frequent_words
            )
            self.bar.update(1)
            return
        inputs, parts = config.inputs, self.parts
        if reference:
            inputs = {"reference": Input(language=config.language, path=reference)}
            parts = [
                Part(input="reference", source="reference", path=path, corpus=reference)
                for path in corpus_files(reference)[0]
            ]
        parts = [part for part in parts if inputs[part.input].language == config.language]
        folder = self.work / "words"
        self._phase(
            "words",
            [
                documents.ReadInputs(inputs, parts, Tally()),
                counts.CountWords(folder, config.language, by_document=not reference),
            ],
        )
        found = add_word_lists(sorted(folder.glob("*.tsv")))
        if not found:
            raise DataError(
                f"{reference or 'inputs'}: expected text of language {config.language!r}, found "
                "not one word in its script; check the files and the language"
            )
        if not reference:
            found = Counter({word: count for word, count in found.items() if count > 1})
        write_word_list(target, found, config.frequent_words)

    def _clean(self) -> Tally:
        """Run the rules over all inputs; return what they did."""
        config, folder, tally = self.config, self.work / "clean", Tally()
        self._phase(
            "clean",
            [
                documents.ReadInputs(config.inputs, self.parts, tally),
                rules.Edit(config, tally),
                rules.Refuse(config, self.work / "words.tsv", tally),
                rules.WithoutItems(
                    self.work / "benchmark.json",
                    config.benchmark_share,
                    "benchmark",
                    self.work / "passing",
                    tally,
                ),
                counts.FindCandidates(folder, config.inputs),
                documents.WriteTask(folder, tally, "clean"),
                minhash.Signatures(self.work / "signatures", config),
            ],
        )
        whole = read_tallies(folder.glob("*.tally.json"))
        require_text(whole, config.languages, "clean")
        return whole

    def _hold_out(self, tally: Tally) -> dict[str, list[Candidate]]:
        """Write heldout/<language>/<source>.jsonl; return what is held out by `language/source`."""
        found: dict[str, list[Candidate]] = {}
        for path in sorted((self.work / "clean").glob("*.candidates.json")):
            for group, notes in json.loads(path.read_text(encoding="utf-8")).items():
                found.setdefault(group, []).extend(Candidate(*note) for note in notes)
        wanted = {group: given.heldout_words for group, given in self._inputs_by_group().items()}
        chosen, taken = {}, set[int]()  # a text that two sources have is held out in one
        for group, candidates in sorted(found.items()):
            new = [each for each in candidates if each.key not in taken]
            chosen[group] = hold_out(new, wanted[group], tally.totals[group]["clean_words"])
            taken |= {each.key for each in chosen[group]}
        items = []
        for group, candidates in chosen.items():
            items += [["heldout", f"{group} {each.id}", each.passage] for each in candidates]
            if candidates:
                lines = [
                    documents.training_line(each.id, group, each.passage) for each in candidates
                ]
                write_bytes_atomically(self.out / "heldout" / f"{group}.jsonl", b"".join(lines))
        text = json.dumps(items, ensure_ascii=False)
        write_atomically(self.work / "heldout.json", text)
        return chosen

    def _keep(self, heldout: dict[str, list[Candidate]]) -> None:
        """Remove duplicates, what is held out and what is close to it."""
        pairs, removed, folder = self.work / "pairs", self.work / "removed", self.work / "kept"
        for name, steps, tasks in minhash.deduplication(
            self.config, self.work / "signatures", pairs, removed
        ):
            self._phase(name, steps, tasks)
        keys = frozenset(each.key for candidates in heldout.values() for each in candidates)
        tally = Tally()
        self._phase(
            "kept",
            [
                documents.ReadTask(self.work / "clean"),
                minhash.without_duplicates(removed, tally),
                rules.WithoutKeys(keys, tally),
                rules.WithoutItems(
                    self.work / "heldout.json",
                    HELDOUT_SHARE,
                    "close to held out",
                    self.work / "passing",
                    tally,
                ),
                counts.CountBins(folder),
                documents.WriteTask(folder, tally, "kept"),
            ],
        )

    def _mix(self) -> None:
        """Write train/<language>/<source>.jsonl.gz."""
        most = {group: given.max_words for group, given in self._inputs_by_group().items()}
        bins = counts.read_bins(self.work / "kept")
        tally = Tally()
        self._phase(
            "mix",
            [
                documents.ReadTask(self.work / "kept"),
                rules.BelowLimit(limits(bins, most, self.config.mix), tally),
                documents.WriteTraining(self.out / "train", tally, self.work / "mix"),
            ],
        )
        whole = read_tallies(self.work.glob("*/*.tally.json"))
        require_text(whole, self.config.languages, "train")
        # A source that one task has written needs no number in its file's name.
        for folder in (self.out / "train").iterdir():
            files = sorted(folder.glob("*.*.jsonl.gz"))
            tasks = Counter(source_of(path) for path in files)
            for path in files:
                source = source_of(path)
                if tasks[source] == 1:
                    path.replace(folder / f"{source}.jsonl.gz")
