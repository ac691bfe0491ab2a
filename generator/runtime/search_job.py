"""A spec as a search has it: what its candidates are compiled and trained with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from generator import pruning
from generator.errors import fail
from generator.facts import Facts
from generator.search.space import TEACHER, unedited
from generator.spec import SpecFile, read_spec
from generator.spec.alter import alter
from generator.spec.source import FolderSource, parse_source

TRAINED, DEPLOYED = "model.safetensors", "deployed.safetensors"
RESULT = "result.json"  # which training writes at its end
MEMORY = "memory"  # in it, what search_train.py adds last
LONGEST = 54  # letters of a name that more is put behind


@dataclass(frozen=True)
class Job:
    """A spec that is searched, or stands beside the search, with what it is compiled and
    trained with."""

    spec_file: SpecFile
    facts: Facts
    weights: Path
    root: Path
    # What candidates may learn from beside the unedited model, by what specs call it.
    teachers: Mapping[str, Job] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The one of the search: rows are split by it in every training."""
        return self.spec_file.spec.train.seed

    def read(self, text: str, file: str) -> tuple[SpecFile, Facts]:
        """A candidate's spec, and the facts that it is compiled with. GenError where it is
        none."""
        spec_file = read_spec(text, file)
        if pruning.stepped(spec_file.spec):
            raise fail("G292", "a candidate is trained in one go, not pruned in steps")
        named = spec_file.spec.train.distill.teacher
        if named is None:
            return spec_file, replace(self.facts, teacher=None)
        teacher = self.teacher(named)
        facts = replace(self.facts, teacher=teacher.facts)
        return replace(spec_file, teacher=teacher.spec_file), facts

    def way(self, folder: Path) -> str | None:
        """How a spec in another folder calls the backbone; None where as this one does."""
        source = self.spec_file.spec.backbone.source
        if not isinstance(parse_source(source), FolderSource) or os.path.isabs(source):
            return None
        there = Path(self.spec_file.file).resolve().parent / source
        return Path(os.path.relpath(there, folder.resolve())).as_posix()

    def elsewhere(self, folder: Path) -> Job:
        """The job as its spec would be in another folder, so that it builds and runs there;
        its teachers likewise. Paths of data stay: `--root` says where they start."""
        teachers = {name: one.elsewhere(folder) for name, one in self.teachers.items()}
        moved, way = replace(self, teachers=teachers), self.way(folder)
        if way is None:
            return moved
        text = alter(self.spec_file.text, {"backbone.from": way})
        spec_file = read_spec(text, self.spec_file.file)
        card = replace(self.facts.card, source=way)
        return replace(
            moved,
            spec_file=replace(spec_file, teacher=self.spec_file.teacher),
            facts=replace(self.facts, card=card),
        )

    def teacher(self, named: str) -> Job:
        """The job of a teacher, by what a spec calls it."""
        if named in self.teachers:
            return self.teachers[named]
        if named != TEACHER:
            raise fail(
                "G551",
                f"this search knows no teacher {named}",
                help="train.distill.teacher is the spec's own, or a choice of its own",
            )
        text = unedited(self.spec_file.text)
        name = f"{self.spec_file.spec.name[:LONGEST]}_unedited"
        spec_file, facts = self.read(alter(text, {"name": name}), TEACHER)
        return replace(self, spec_file=spec_file, facts=facts)


def whole(work: Path) -> bool:
    """Whether a training for the search came to its end in a folder. train.py writes its
    result before the model that predicts is made of what it trained."""
    try:
        found = json.loads((work / RESULT).read_text())
    except (OSError, ValueError):
        return False
    return MEMORY in found and (work / TRAINED).is_file()


def tidy(work: Path) -> None:
    """Without what only a training that goes on would need."""
    for name in ("checkpoints", "rows", "cache", "teacher"):
        shutil.rmtree(work / name, ignore_errors=True)
