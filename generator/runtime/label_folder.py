"""Folders of images or texts that are named as their labels, as files that list them.

    photos/train/cat/1.jpg            photos/cat/1.jpg            news/sport/1.txt
    photos/valid/dog/2.jpg     or     photos/dog/2.jpg     or     news/tech/2.txt

A list of images is a CSV file with the columns image and label, for each split. A path in
it starts from the folder of the list, as in every data file. Of texts it has the texts
themselves, as JSON lines: no data file names other files to read texts from.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from generator.errors import Diagnostic, GenError, fail, quote
from generator.runtime.look import IMAGE_ENDINGS, LONGEST_ROW, SPLITS, check_text
from generator.spec.rules import DATA_ENDINGS, LABEL, check_string


@dataclass(frozen=True)
class Contents:
    """What lies in folders, and how it is listed."""

    name: str  # in words
    endings: tuple[str, ...]  # of its files
    column: str  # of the list; the other is "label"
    ending: str  # of the list


IMAGES = Contents("images", IMAGE_ENDINGS, "image", ".csv")
# The 20 newsgroups, and mail as it is stored, have files without an ending.
TEXTS = Contents("texts", (".txt", ""), "text", ".jsonl")


@dataclass(frozen=True)
class Listing:
    """The files of a split, in order, and what lies among them that is none of them."""

    split: str
    files: tuple[tuple[Path, str], ...]  # and the label of each
    others: int


def contents_of(path: Path) -> Contents | None:
    """What lies in a folder's folders; None where it is neither images nor mostly texts,
    or a data file is there that would list them."""
    if not path.is_dir() or any(p.suffix in DATA_ENDINGS for p in path.iterdir()):
        return None
    texts = others = 0
    for folder in _folders(path):
        for file in _files(folder):
            if file.suffix.lower() in IMAGES.endings:
                return IMAGES
            is_text = file.suffix.lower() in TEXTS.endings
            texts, others = texts + is_text, others + (not is_text)
    return TEXTS if texts > others else None


def listings(path: Path, contents: Contents) -> list[Listing]:
    """What each split holds, "train" first; GenError (G521) without a train folder where
    some are named as splits, and (G520) where a folder's name can be no label."""
    named = {
        split: [f for f in _folders(path) if f.name.lower() in names]
        for split, names in SPLITS.items()
    }
    if not any(named.values()):
        return [_listing("train", path, contents)]
    if twice := next((some for some in named.values() if len(some) > 1), None):
        raise fail(
            "G521",
            f"{twice[0]} and {twice[1]} are both of one split",
            help=f"put their {contents.name} into one folder",
        )
    if not named["train"]:
        raise fail(
            "G521",
            f"{path} has folders named as splits, and none is named train",
            help=f"name the folder of the {contents.name} to learn from train",
        )
    every = [folder for some in named.values() for folder in some]
    if left := [f for f in _folders(path) if f not in every]:
        raise fail(
            "G521",
            f"{left[0]} stands beside folders that are named as splits",
            help="a folder of splits holds no others: move it into one, or elsewhere",
        )
    return [_listing(split, some[0], contents) for split, some in named.items() if some]


def _listing(split: str, path: Path, contents: Contents) -> Listing:
    found: list[tuple[Path, str]] = []
    others = sum(1 for p in path.iterdir() if p.is_file() and not _hidden(p.name))
    for folder in _folders(path):
        if finding := check_string(LABEL, folder.name):
            raise fail(
                "G520",
                f"the folder {quote(str(folder))} {finding.message}",
                help="rename it: its name is a label",
            )
        for file in _files(folder):
            if file.suffix.lower() in contents.endings:
                found.append((file, folder.name))
            else:
                others += 1
    return Listing(split, tuple(found), others)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not _hidden(p.name))


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(at, name) for name in sorted(names) if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "Thumbs.db"


def paths_of(
    found: Sequence[Listing], contents: Contents, path: Path, folder: Path
) -> dict[str, Path]:
    """The list of each split that is to be in `folder`, named as the folder of files."""
    stem = Path(os.path.abspath(path)).name
    if any(stem.lower() in names for names in SPLITS.values()):
        stem = contents.name
    return {one.split: folder / f"{stem}_{one.split}{contents.ending}" for one in found}


def left_out(path: Path) -> Path:
    """Beside a list of texts, the file that says which are not in it, and why."""
    return path.with_name(f"{path.stem}_left_out.txt")


def write(
    found: Sequence[Listing], contents: Contents, paths: Mapping[str, Path]
) -> dict[str, list[str]]:
    """Write the lists, and what of each split's texts cannot be read, in words.

    FileExistsError or UnicodeEncodeError where one cannot be written, GenError (G522) where
    none of the texts can be read, and then none is there.
    """
    done: list[Path] = []
    unread: dict[str, list[str]] = {}
    try:
        for one in found:
            path, faults = paths[one.split], []
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="utf-8", newline="") as file:
                done.append(path)
                if contents is TEXTS:
                    faults = _write_texts(file, one)
                else:
                    _write_paths(file, one, Path(os.path.realpath(path.parent)))
            unread[one.split] = faults
            if faults:
                with open(left_out(path), "x", encoding="utf-8") as file:
                    done.append(left_out(path))
                    file.writelines(f"{fault}\n" for fault in faults)
    except BaseException:
        for path in done:
            path.unlink()
        raise
    return unread


def _write_paths(file: TextIO, listing: Listing, there: Path) -> None:
    writer = csv.writer(file)
    writer.writerow((IMAGES.column, "label"))
    for image, label in listing.files:
        from_there = os.path.relpath(os.path.realpath(image.parent), there)
        writer.writerow([Path(from_there, image.name).as_posix(), label])


def _write_texts(file: TextIO, listing: Listing) -> list[str]:
    """What is said of the texts that cannot be read; GenError where there are no others."""
    faults: list[GenError] = []
    for path, label in listing.files:
        try:
            row = {TEXTS.column: read_text(path), "label": label}
        except GenError as fault:
            faults.append(fault)
            continue
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if faults and len(faults) == len(listing.files):
        raise faults[0]
    return [_in_a_line(fault.diagnostics[0]) for fault in faults]


def _in_a_line(fault: Diagnostic) -> str:
    if fault.place is None:
        return fault.message
    return f"{fault.message} (line {fault.place.line:,})"


def read_text(path: Path) -> str:
    """GenError (G522) where it is no text in UTF-8, or a row cannot be so long."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        text = file.read(LONGEST_ROW // 2)
        if file.read(1):
            raise fail(
                "G522",
                f"{path} is longer than {LONGEST_ROW >> 21} MiB",
                help="cut it: no model reads so much",
            )
    check_text(path, text)
    return text
