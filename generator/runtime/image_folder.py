"""Folders of images that are named as their labels, as files that list them.

    photos/train/cat/1.jpg            photos/cat/1.jpg
    photos/valid/dog/2.jpg     or     photos/dog/2.jpg

The lists are CSV files with the columns image and label, one for each split. A path in
them starts from the folder of the list, as in every data file.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from generator.errors import fail, quote
from generator.runtime.look import IMAGE_ENDINGS, SPLITS
from generator.spec.rules import DATA_ENDINGS, LABEL, check_string

COLUMNS = ("image", "label")


@dataclass(frozen=True)
class Listing:
    """The images of a split, in order, and what lies among them that is none."""

    split: str
    images: tuple[tuple[Path, str], ...]  # and the label of each
    others: int


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds folders of images, and no data file that would list them."""
    if not path.is_dir() or any(p.suffix in DATA_ENDINGS for p in path.iterdir()):
        return False
    return any(
        Path(name).suffix.lower() in IMAGE_ENDINGS
        for folder in _folders(path)
        for _, _, names in os.walk(folder)
        for name in names
    )


def listings(path: Path) -> list[Listing]:
    """What each split holds, "train" first; GenError (G521) without a train folder where
    some are named as splits, and (G520) where a folder's name can be no label."""
    named = {
        split: [f for f in _folders(path) if f.name.lower() in names]
        for split, names in SPLITS.items()
    }
    if not any(named.values()):
        return [_listing("train", path)]
    if twice := next((some for some in named.values() if len(some) > 1), None):
        raise fail(
            "G521",
            f"{twice[0]} and {twice[1]} are both of one split",
            help="put their images into one folder",
        )
    if not named["train"]:
        raise fail(
            "G521",
            f"{path} has folders named as splits, and none is named train",
            help="name the folder of the images to learn from train",
        )
    every = [folder for some in named.values() for folder in some]
    if left := [f for f in _folders(path) if f not in every]:
        raise fail(
            "G521",
            f"{left[0]} stands beside folders that are named as splits",
            help="a folder of splits holds no others: move it into one, or elsewhere",
        )
    return [_listing(split, some[0]) for split, some in named.items() if some]


def _listing(split: str, path: Path) -> Listing:
    images: list[tuple[Path, str]] = []
    others = sum(1 for p in path.iterdir() if p.is_file() and not _hidden(p.name))
    for folder in _folders(path):
        if finding := check_string(LABEL, folder.name):
            raise fail(
                "G520",
                f"the folder {quote(str(folder))} {finding.message}",
                help="rename it: its name is a label",
            )
        for file in _files(folder):
            if file.suffix.lower() in IMAGE_ENDINGS:
                images.append((file, folder.name))
            else:
                others += 1
    return Listing(split, tuple(images), others)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not _hidden(p.name))


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(at, name) for name in sorted(names) if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "Thumbs.db"


def paths_of(found: Sequence[Listing], path: Path, folder: Path) -> dict[str, Path]:
    """The list of each split that is to be in `folder`, named as the folder of images."""
    stem = Path(os.path.abspath(path)).name
    if any(stem.lower() in names for names in SPLITS.values()):
        stem = "images"
    return {one.split: folder / f"{stem}_{one.split}.csv" for one in found}


def write(found: Sequence[Listing], paths: Mapping[str, Path]) -> None:
    """Write the lists; FileExistsError or UnicodeEncodeError where one cannot be, and
    then none is there."""
    done: list[Path] = []
    try:
        for one in found:
            path = paths[one.split]
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="utf-8", newline="") as file:
                done.append(path)
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                there = Path(os.path.realpath(path.parent))
                for image, label in one.images:
                    from_there = os.path.relpath(os.path.realpath(image.parent), there)
                    writer.writerow([Path(from_there, image.name).as_posix(), label])
    except (OSError, UnicodeEncodeError):
        for path in done:
            path.unlink()
        raise
