"""Writes what is derived from the spec's classes and the error codes, under docs/.

python -m generator.spec            write what changed, remove orphaned error pages
python -m generator.spec --check    write nothing; exit 1 if something would change
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from generator.codes import CODES, error_index, error_page
from generator.spec.reference import reference_markdown
from generator.spec.schema import json_schema

DOCS = Path(__file__).resolve().parents[2] / "docs"


def derived() -> dict[str, str]:
    """Every derived file, by its path under docs/."""
    return {
        "spec.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "reference.md": reference_markdown(),
        "errors/README.md": error_index(),
        **{f"errors/{code}.md": error_page(code) for code in sorted(CODES)},
    }


def out_of_date(docs: Path) -> tuple[dict[str, str], list[str]]:
    """The files under `docs` to write, and the error pages of codes that are no more."""
    files = derived()
    stale = {}
    for path, text in files.items():
        file = docs / path
        if not file.is_file() or file.read_bytes() != text.encode():
            stale[path] = text
    pages = (p.name for p in (docs / "errors").glob("*.md"))
    orphans = sorted(n for n in pages if re.fullmatch(r"G\d{3}\.md", n))
    return stale, [f"errors/{n}" for n in orphans if f"errors/{n}" not in files]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m generator.spec")
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale, orphans = out_of_date(DOCS)
    for path, text in stale.items():
        print(f"{'stale' if check else 'wrote'} docs/{path}")
        if not check:
            (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
            (DOCS / path).write_bytes(text.encode())
    for path in orphans:
        print(f"{'orphaned' if check else 'removed'} docs/{path}")
        if not check:
            (DOCS / path).unlink()
    return int(check and bool(stale or orphans))


if __name__ == "__main__":
    raise SystemExit(main())
