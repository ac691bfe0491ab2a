"""`gen facts`: gather what builds may know beside specs, and say what it is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator.facts import Facts, dump_used
from generator.runtime import build as building
from generator.runtime import gather
from generator.runtime.checkpoint import resolve
from generator.spec import SpecFile
from generator.spec.edits import TrimVocab
from generator.vocab import closure, parse

if TYPE_CHECKING:
    from generator.runtime.vocab import Comparison


def facts(args: argparse.Namespace) -> int:
    """`gen facts SPEC...`. 0; GenError where something cannot be gathered."""
    figures = [_one(args, building.load_spec(path)) for path in args.specs]
    if args.json:
        print(json.dumps(figures, indent=1))
    return 0


def _one(args: argparse.Namespace, spec_file: SpecFile) -> dict[str, Any]:
    root = Path(spec_file.file).resolve().parent
    folder = gather.facts_folder(root, spec_file.spec.name)
    if args.complete:
        found = building.facts_for(spec_file)
        source = resolve(spec_file.spec.backbone.source, root)
        found = gather.complete(found, source, convert_tokenizer=True)
        gather.save_facts(found, folder)
    elif args.refresh:
        found = building.refresh_facts(spec_file)
    else:
        found = building.facts_for(spec_file)
    card = found.card
    verified = "verified" if card.verified else "unverified"
    _say(args, f"{folder}: {card.source}, {len(card.tensors)} tensors, {verified}")
    figures = {
        "folder": str(folder),
        "source": card.source,
        "verified": card.verified,
    }
    if args.vocabulary:
        figures["tokens"] = _count_tokens(args, spec_file, found, folder)
    return figures


def _count_tokens(
    args: argparse.Namespace, spec_file: SpecFile, found: Facts, folder: Path
) -> dict[str, Any]:
    from generator.runtime.vocab import training_tokens

    root = args.root or Path(spec_file.file).parent
    keep = [t for e in spec_file.spec.edit if isinstance(e, TrimVocab) for t in e.keep]
    used, become = training_tokens(
        spec_file, found, root, keep=keep, quiet=args.quiet or args.json
    )
    vocabulary = parse(found.tokenizer or b"", str(folder / gather.TOKENIZER))
    kept = closure(vocabulary, used.ids, keep)
    gather.save_facts(replace(found, vocabulary=dump_used(used)), folder)
    _say(
        args,
        f"  {used.texts:,} texts use {len(used.ids):,} of {len(vocabulary.tokens):,} "
        f"tokens; {len(kept):,} would be kept",
    )
    for split, found_there in become.items():
        for line in _become(split, found_there):
            _say(args, f"  {line}")
    return {
        "become": {split: asdict(one) for split, one in become.items()},
        "texts": used.texts,
        "used": len(used.ids),
        "kept": len(kept),
        "vocabulary": len(vocabulary.tokens),
    }


def _become(split: str, found: Comparison) -> Iterator[str]:
    """What becomes of a split's texts under the trimmed vocabulary, and an example."""
    unknown = found.unknown_after - found.unknown_before
    yield (
        f"{split}: {found.same:,} of {found.texts:,} texts have the same tokens; "
        f"{found.lost:,} of {found.tokens:,} tokens fall to shorter ones, "
        f"{unknown:,} more are unknown"
    )
    for one in found.changed[:1]:
        for span in one.spans[:2]:
            yield f"  {' '.join(span.before)} becomes {' '.join(span.after)}"


def _say(args: argparse.Namespace, text: str) -> None:
    if not (args.quiet or args.json):
        print(text)
