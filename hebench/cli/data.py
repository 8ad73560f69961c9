"""`hebench data`: list the public data, fetch and verify it, look for it in a corpus."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hebench.cli.options import AsJson
from hebench.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="The public data: list, fetch, verify.")


@app.command("ls")
def data_ls(as_json: AsJson = False) -> None:
    """List the public sets: licence, size, and how much of each is in the cache."""
    from hebench.data.fetch import sources

    rows = [
        {
            "name": source.name,
            "title": source.title,
            "licence": source.licence,
            "noncommercial": source.noncommercial,
            "files": len(source.files),
            "present": sum(file.cached.exists() for file in source.files.values()),
            "megabytes": round(sum(file.bytes or 0 for file in source.files.values()) / 1e6, 1),
            "note": source.note,
        }
        for source in sources().values()
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        flag = " [non-commercial]" if row["noncommercial"] else ""
        counts = f"{row['present']:>4} of {row['files']:>3} files"
        print(f"{row['name']:18}{counts}{row['megabytes']:>7} MB")
        print(f"{'':18}{row['title']}; licence: {row['licence']}{flag}")
        if row["note"]:
            print(f"{'':18}{row['note']}")


@app.command("get")
def data_get(
    names: Annotated[list[str] | None, typer.Argument(help="Sets, or SET/FILE.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every set.")] = False,
) -> None:
    """Download sets into the cache; what cannot be had is listed, the rest is fetched."""
    from hebench.data.fetch import fetch, select, sources
    from hebench.errors import DataError

    if bool(names) == everything:
        raise ConfigError("expected names of data sets or --all; `hebench data ls` lists them")
    wanted = select(names or list(sources()))
    failures = []
    for file in wanted:
        try:
            fetch(file.source, file.name)
        except DataError as error:
            failures.append(error)
            print(f"hebench: {error}", file=sys.stderr)
    print(f"{len(wanted) - len(failures)} of {len(wanted)} files are in the cache")
    if failures:
        raise DataError(f"{len(failures)} of {len(wanted)} files could not be fetched (see above)")


@app.command("verify")
def data_verify() -> None:
    """Check every file of the cache against its pinned checksum; a damaged one is set aside."""
    from hebench.data.fetch import fetch, select, sources
    from hebench.errors import DataError

    present = [file for file in select(list(sources())) if file.cached.exists()]
    failures = 0
    for file in present:
        try:
            fetch(file.source, file.name)
        except DataError as error:
            failures += 1
            print(f"hebench: {error}", file=sys.stderr)
    print(f"{len(present) - failures} of {len(present)} cached files are as pinned")
    if failures:
        raise DataError(f"{failures} cached files were damaged (see above)")


@app.command("overlap")
def data_overlap(
    corpus: Annotated[Path, typer.Argument(help="A file or folder: jsonl, parquet or txt.")],
    sets: Annotated[str, typer.Option("--sets", help="Sets by name; default: all.")] = "",
    field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    clean: Annotated[Path | None, typer.Option(help="Write the corpus without them here.")] = None,
    min_share: Annotated[
        float, typer.Option(help="Leave a document out only if it holds this share of an item.")
    ] = 0.0,
    report: Annotated[Path | None, typer.Option(help="Write the report, item by item.")] = None,
) -> None:
    """Find evaluation items in a training corpus, and write the corpus without them."""
    from hebench.data.evaluated import evaluation_items, sources_of
    from hebench.data.overlap import clean_corpus, find_overlap
    from hebench.errors import DataError
    from hebench.files import write_atomically

    if min_share and clean is None:
        raise ConfigError("--min-share says what --clean leaves out: add --clean, or omit it")
    names = tuple(part.strip() for part in sets.split(",") if part.strip())
    items, absent = evaluation_items(names)
    if not items:
        raise DataError(
            f"--sets {sets}: expected a set that is in the cache, found none of "
            f"{', '.join(absent)}; run `hebench data get {' '.join(sources_of(names))}`"
        )
    cleaning = None
    if clean is None:
        overlap = find_overlap(corpus, items, field=field, workers=workers)
    else:
        cleaning = clean_corpus(
            corpus, items, clean, min_share=min_share, field=field, workers=workers
        )
        overlap = cleaning.overlap
    print(f"{overlap.documents:,} documents, {overlap.words:,} words in {overlap.files} files")
    print(f"{'set':24}{'items':>8}{'too short':>11}{'judged':>8}{'touched':>9}{'contained':>11}")
    for row in overlap.sets:
        counts = f"{row.items:>8}{row.too_short:>11}{row.judged:>8}{row.touched:>9}"
        print(f"{row.set:24}{counts}{row.contained:>11}")
    if absent:
        print(f"not in the cache, not looked for: {', '.join(absent)}")
    if overlap.skipped:
        print(f"files of another format, not read: {', '.join(overlap.skipped)}")
    if cleaning:
        print(f"{cleaning.removed:,} of {cleaning.documents:,} documents left out of {clean}")
        for name, count in cleaning.removed_by_set.items():
            print(f"  {name}: {count:,}")
    if report:
        write_atomically(report, json.dumps(asdict(overlap), ensure_ascii=False, indent=1) + "\n")
