"""`gen facts`: gather what builds may know beside specs, and say what it is."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from generator.facts import Facts, dump_used
from generator.runtime import build as building
from generator.runtime import gather
from generator.runtime.checkpoint import resolve
from generator.spec import SpecFile
from generator.vocab import closure, parse


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
) -> dict[str, int]:
    from generator.runtime.vocab import training_tokens

    root = args.root or Path(spec_file.file).parent
    used = training_tokens(spec_file, found, root, quiet=args.quiet or args.json)
    vocabulary = parse(found.tokenizer or b"", str(folder / gather.TOKENIZER))
    kept = closure(vocabulary, used.ids)
    gather.save_facts(replace(found, vocabulary=dump_used(used)), folder)
    _say(
        args,
        f"  {used.texts:,} texts use {len(used.ids):,} of {len(vocabulary.tokens):,} "
        f"tokens; {len(kept):,} would be kept",
    )
    return {
        "texts": used.texts,
        "used": len(used.ids),
        "kept": len(kept),
        "vocabulary": len(vocabulary.tokens),
    }


def _say(args: argparse.Namespace, text: str) -> None:
    if not (args.quiet or args.json):
        print(text)
