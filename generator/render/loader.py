"""`load_pretrained`, from the sources of the parameters: the same data the verifier read."""

from __future__ import annotations

import os.path
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from generator.ir.dims import Dim
from generator.ir.head import classifier, units
from generator.ir.job import Job, Model, Module, Unused, absolute, added, list_name
from generator.ir.sources import (
    Checkpoint,
    Concatenate,
    Fold,
    Gain,
    Init,
    Left,
    Noise,
    Norms,
    Repeat,
    Resize,
    Right,
    Row,
    Rows,
    ShapeError,
    Share,
    Source,
    Stretch,
    Sum,
    Take,
    Tie,
    Tile,
    Transpose,
    factors,
    keys,
    leaves,
    map_children,
    nodes,
    rebuild,
    shape_of,
)
from generator.render import kept
from generator.render.sizes import Sizes
from generator.render.text import prose, py

LONG = 88 - 12  # what a statement in two loops of the loader may take
LINEARS = "LINEARS"  # what a table of those that some blocks have factored is called
NORMS = Norms(Checkpoint(""))  # the lengths of whatever weight stands beside them


@dataclass(frozen=True)
class Entry:
    """A parameter and where it comes from; `{i}`, `{j}` and `{p}` are variables of loops.

    `{i}` is the number of a block here, `{j}` the one that the checkpoint has for it.
    """

    name: str
    source: Source
    shape: tuple[str, ...] = ()  # its sizes in Python, for a new one
    sizes: tuple[int, ...] = ()
    beside: Entry | None = (
        None  # of a right factor: the left one, made together with it
    )

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def paired(self) -> bool:
        """Whether it stands for a weight and a bias."""
        return self.name.endswith(".{p}")


@dataclass(frozen=True)
class TableView:
    """Names here and in the checkpoint, as a dictionary above the loader."""

    name: str
    rows: tuple[tuple[str, str], ...]  # literals


@dataclass(frozen=True)
class LoaderView:
    tables: tuple[TableView, ...]
    unused: tuple[tuple[str, tuple[str, ...]], ...]  # reason, literals of keys
    left: tuple[tuple[str, tuple[str, ...]], ...]  # the same, of starts of keys
    few_unused: tuple[str, ...]  # lines that leave them out, where that is shorter
    lines: tuple[str, ...]  # of the body that fills `state`
    doc: tuple[str, ...]  # the lines of the docstring's second paragraph
    cast: str  # what makes fp32 of a tensor of the checkpoint; "" where it is that
    joins: bool  # some tensors are joined
    again: bool  # some tensors are read twice: by a copy, or by a bias as well
    copies: bool  # of whole blocks, with memory of their own
    kept: str  # the file of the lists of what is kept; "" where there are none
    repeats: bool  # rows are repeated, and below: what the helpers are for
    shares: bool
    adds_noise: bool
    factors: bool
    gains: bool
    folds: bool  # what is left out of a matrix gives a constant, which a bias takes up
    tiles: bool
    stretches: bool
    resizes: bool


def loader_view(job: Job, sizes: Sizes) -> LoaderView:
    model = job.model
    shapes = {t.key: t.shape for t in model.tensors}
    entries, blocks = _entries(model, sizes)
    single: list[str] = []  # lines that assign a whole parameter
    paired: list[str] = []  # lines for {p}, in one loop over weight and bias
    for entry in _pairs(entries):
        (paired if entry.paired else single).extend(_assign(entry, shapes))
    tables: list[TableView] = []
    last: list[str] = []  # lines for adapters, which may read what stands above them
    for stem, members in blocks.items():
        last += _adapters(stem, members.take_added(), shapes)
        for lines, pairs in ((single, False), (paired, True)):
            more, table = _blocks(stem, members, shapes, pairs, tables)
            lines += more
            tables += table
    wholes = [t for t in tables if not t.name.startswith(LINEARS)]
    if len(wholes) == 1:  # then it needs no other name than the list's own
        old, plain = wholes[0].name, wholes[0].name.removesuffix("_WHOLE")
        tables = [replace(t, name=plain) if t.name == old else t for t in tables]
        single = [line.replace(f"{old}.items()", f"{plain}.items()") for line in single]
    if paired:
        paired = ['for p in ("weight", "bias"):', *("    " + line for line in paired)]
    first = "state: dict[str, Tensor] = {}"
    if single and single[0].startswith("state[") and len(single[0]) < 80:
        name, _, value = single.pop(0).removeprefix("state[").partition("] = ")
        first = f"state = {{{name}: {value}}}"
    lines = [first, *single, *paired, *last, *_selected(model), *_rescaled(job, sizes)]
    new = [e.name for e in entries if isinstance(e.source, Init)]
    left, named = _left(model)
    unused = tuple(_unused(named))
    few = sum(len(keys) for _, keys in unused) <= 2 and len(unused) == 1
    unread = {u.key for u in model.unused}
    read = [t for t in model.tensors if t.key not in unread]
    every = [
        *entries,
        *(e for one in blocks.values() for some in one.entries.values() for e in some),
    ]
    every += [e.beside for e in every if e.beside]
    made = [one for e in every for one in nodes(e.source)]
    return LoaderView(
        tables=tuple(tables),
        unused=() if few else unused,
        left=left,
        few_unused=tuple(_dropped(*unused[0])) if few else (),
        lines=tuple(part for line in lines for part in _fit(line)),
        doc=tuple(_doc([name.rpartition(".")[0] for name in new], job)),
        cast=".float()" if any(t.dtype != "F32" for t in read) else "",
        joins=any(_is_taken_joined(one) for one in made),
        again=bool(model.copies) or any(isinstance(one, Fold) for one in made),
        copies=bool(model.copies),
        kept=kept.FILE if kept.lists(job) else "",
        repeats=any(isinstance(one, Repeat) for one in made),
        shares=any(isinstance(one, Share) for one in made),
        adds_noise=any(isinstance(one, Noise) for one in made),
        factors=any(isinstance(one, Left | Right) for one in made),
        gains=any(isinstance(one, Gain) for one in made),
        folds=any(isinstance(one, Fold) for one in made),
        tiles=any(isinstance(one, Tile) for one in made),
        stretches=any(isinstance(one, Stretch) for one in made),
        resizes=any(isinstance(one, Resize) for one in made),
    )


def _is_taken_joined(source: Source) -> bool:
    """Whether `take` is given several keys."""
    return isinstance(source, Concatenate) and all(
        isinstance(part, Checkpoint) for part in source.parts
    )


def _selected(model: Model) -> Iterator[str]:
    """The lines that fill buffers of which numbers of a vector stay."""
    for instance in model.main.instances:
        for op in model.by_name[instance.module].ops:
            if op.kind == "select":
                name = str(op.attrs_dict["by"])
                index = model.kept[name]
                value = f"kept[{py(name)}]"
                if len(index) <= kept.FEW:
                    value = f"torch.tensor({py(list(index))})"
                yield f"state[{py(f'{instance.name}.{name}')}] = {value}"


def _rescaled(job: Job, sizes: Sizes) -> Iterator[str]:
    """The lines that fill what answers are multiplied by, and what is added."""
    for name, start in zip(units(job.model), ("ones", "zeros"), strict=False):
        wide = sizes.python(classifier(job.model).answers, "Config")
        yield f"state[{py(name)}] = torch.{start}({wide})"


def _fit(line: str) -> tuple[str, ...]:
    """A line of the body; a call that is too long for it over three, as black has it."""
    called = re.fullmatch(r"( *)(.*? = \w+)\((.*)\)", line)
    if called is None or not _closed(called[3]) or 4 + len(line) <= 88:
        return (line,)
    indent, head, inside = called.groups()
    return f"{indent}{head}(", f"{indent}    {inside}", f"{indent})"


def _closed(inside: str) -> bool:
    """Whether no parenthesis of an argument list ends the call before its end."""
    depth = 0
    for mark in re.findall(r"[()]", inside):
        depth += 1 if mark == "(" else -1
        if depth < 0:
            return False
    return True


def _doc(new: Sequence[str], job: Job) -> list[str]:
    adapters = len(added(job)) > 0
    text = (
        "Every weight there is used or named as unused, and every shape matches; "
        "anything else is a ValueError or a RuntimeError."
    )
    names = " and ".join(dict.fromkeys(new))
    if new and adapters:
        text += f" New: {names} and adapters."
    elif new:
        text += f" New, for training to fill: {names}."
    elif adapters:
        text += " Adapters are new and change nothing yet."
    if job.model.copies:
        text += " Copies of blocks end in zeros, and change nothing yet."
    return textwrap.wrap(text, 84, break_long_words=False)


def _left(
    model: Model,
) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], list[Unused]]:
    """Whole blocks of unread tensors by the start of their keys, and the other ones."""
    reasons = {u.key: u.reason for u in model.unused}
    blocks: dict[str, list[str]] = {}
    for t in model.tensors:
        if start := re.match(r"(?:\D*?\.)?\d+\.", t.key):
            blocks.setdefault(start.group(), []).append(t.key)
    found: dict[str, list[str]] = {}
    gone: set[str] = set()
    for start, some in blocks.items():
        why = {reasons.get(key) for key in some}
        if len(some) > 1 and len(why) == 1 and (reason := why.pop()) is not None:
            found.setdefault(reason, []).append(py(start))
            gone.update(some)
    left = tuple((prose(reason), tuple(starts)) for reason, starts in found.items())
    return left, [u for u in model.unused if u.key not in gone]


def _unused(unused: Sequence[Unused]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for reason in dict.fromkeys(u.reason for u in unused):
        yield prose(reason), tuple(py(u.key) for u in unused if u.reason == reason)


def _dropped(reason: str, keys: Sequence[str]) -> Iterator[str]:
    """Lines that take a few weights, which nothing reads, out of those there are."""
    line = f"holds.pop({keys[0]}, None)  # {reason}"
    if len(keys) == 1 and len(line) <= 84:
        yield line
        return
    yield from textwrap.wrap(
        f"Not read: {reason}.", 84, initial_indent="# ", subsequent_indent="# "
    )
    if len(keys) == 1:
        yield f"holds.pop({keys[0]}, None)"
    else:
        yield f"for key in ({', '.join(keys)}):"
        yield "    holds.pop(key, None)"


@dataclass
class Members:
    """The blocks of a list: their numbers in the checkpoint, and their entries.

    The names of the entries are relative to their block, their keys are not.
    """

    numbers: dict[int, int] = field(default_factory=dict)  # by the number here
    entries: dict[int, list[Entry]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether all have the checkpoint's numbers."""
        return all(here == there for here, there in self.numbers.items())

    def take_added(self) -> dict[int, list[Entry]]:
        """The entries of adapters, by the number here; they are none of these then."""
        added = {}
        for i, entries in self.entries.items():
            added[i] = [e for e in entries if isinstance(e.source, (Init, Norms))]
            self.entries[i] = [e for e in entries if e not in added[i]]
        return added


def _entries(model: Model, sizes: Sizes) -> tuple[list[Entry], dict[str, Members]]:
    """Those outside of lists, and those of each list by the number of the member."""
    plain: list[Entry] = []
    lists: dict[str, Members] = {}

    def walk(
        module: Module,
        ours: str,
        theirs: str,
        path: str,
        numbered: str,
        scope: Mapping[str, Dim],
        given: Mapping[str, Source],
    ) -> Iterator[Entry]:
        for p in module.parameters:
            source = absolute(given.get(ours + p.name, p.source), theirs)
            new = isinstance(source, Init)
            kind = p.type.substitute(scope)
            yield Entry(
                ours + p.name,
                _listed(source, path + ours, numbered + ours, model),
                tuple(sizes.python(d, "Config") for d in kind.shape) if new else (),
                kind.sizes(model.sizes) if new else (),
            )
        for instance in module.instances:
            inner = model.by_name[instance.module]
            for name, at, _ in instance.each():
                here = f"{ours}{name}."
                yield from walk(
                    inner,
                    here,
                    theirs + at,
                    path,
                    numbered,
                    instance.within(scope),
                    {**instance.given(here), **given},
                )

    main = model.main
    plain += _with_factors(walk(replace(main, instances=()), "", "", "", "", {}, {}))
    for instance in main.instances:
        inner = model.by_name[instance.module]
        for name, at, _ in instance.each():
            stem, _, number = name.rpartition(".")
            if number.isdigit():
                members = lists.setdefault(stem, Members())
                # The last number in the keys of a block is its own.
                head, there, tail = re.findall(r"(.*?)(\d+)(\D*)$", at)[0]
                members.numbers[int(number)] = int(there)
                block = (f"{name}.", f"{stem}.{{i}}.")
                within = instance.within({}), instance.given("")
                members.entries[int(number)] = _with_factors(
                    walk(inner, "", f"{head}{{j}}{tail}", *block, *within)
                )
            else:
                within = instance.within({}), instance.given(f"{name}.")
                plain += _with_factors(walk(inner, f"{name}.", at, "", "", *within))
    for members in lists.values():
        if members.same:  # then one variable is enough
            for i, some in members.entries.items():
                members.entries[i] = [_renamed(e, "{j}", "{i}") for e in some]
    return plain, lists


def _listed(source: Source, path: str, numbered: str, model: Model) -> Source:
    """The source with the lists of the module at `path`.

    A short one stands there; of a long one its name alone, which is the same in every
    block but for the block's number: `numbered` is the path with `{i}` for it.
    """
    if isinstance(source, Take | Fold):
        full = list_name(source.name, path, model.kept)
        index = model.kept[full]
        around = full.removesuffix(source.name).count(".")
        at = "".join(part + "." for part in numbered.split(".")[:around])
        short = index if len(index) <= kept.FEW else ()
        source = replace(source, name=at + source.name, index=short)
    return map_children(source, lambda part: _listed(part, path, numbered, model))


def _with_factors(entries: Iterable[Entry]) -> list[Entry]:
    """The entries, each left factor with the right one that it is made with."""
    found = list(entries)
    left = {
        (f.of, f.rank): e
        for e in found
        for f in factors(e.source)
        if isinstance(f, Left)
    }
    right = {
        (f.of, f.rank): e
        for e in found
        for f in factors(e.source)
        if isinstance(f, Right)
    }
    pairs = {e.name: left[made] for made, e in right.items()}
    apart = {e.name for e in left.values()}
    return [replace(e, beside=pairs.get(e.name)) for e in found if e.name not in apart]


def _mapped(
    entry: Entry,
    key: Callable[[str], str],
    name: Callable[[str], str] = lambda name: name,
) -> Entry:
    """The entry with other keys in the checkpoint, and perhaps another name."""

    def change(leaf: Source) -> Source:
        return Checkpoint(key(leaf.key)) if isinstance(leaf, Checkpoint) else leaf

    return replace(
        entry,
        name=name(entry.name),
        source=rebuild(entry.source, change),
        beside=_mapped(entry.beside, key, name) if entry.beside else None,
    )


def _renamed(entry: Entry, old: str, new: str) -> Entry:
    """The entry with another text for one in its checkpoint's keys."""
    return _mapped(entry, lambda key: key.replace(old, new))


def _pairs(entries: Sequence[Entry]) -> list[Entry]:
    """A weight and a bias of one source but for that word as one entry with `{p}`."""
    by_stem: dict[str, list[Entry]] = {}
    for entry in entries:
        by_stem.setdefault(entry.stem, []).append(entry)
    found: list[Entry] = []
    for group in by_stem.values():
        both = {_suffixless(e) for e in group}
        names = [e.name.rpartition(".")[2] for e in group]
        one = both.pop() if len(both) == 1 else None
        if names == ["weight", "bias"] and one is not None:
            found.append(one)
        else:
            found += group
    return found


def _suffixless(entry: Entry) -> Entry | None:
    """The entry with `{p}` for its own last name, there and in the checkpoint's keys."""
    suffix = entry.name.rpartition(".")[2]
    if not all(
        isinstance(leaf, Checkpoint) and leaf.key.endswith("." + suffix)
        for leaf in leaves(entry.source)
    ):
        return None

    def change(leaf: Source) -> Source:
        assert isinstance(leaf, Checkpoint)
        return Checkpoint(leaf.key.removesuffix(suffix) + "{p}")

    return Entry(f"{entry.stem}.{{p}}", rebuild(entry.source, change))


def _blocks(
    stem: str,
    members: Members,
    shapes: Shapes,
    paired: bool,
    known: Sequence[TableView],
) -> tuple[list[str], list[TableView]]:
    """The loops that load a list's members. What all have stands in a table of names.

    `known` are the tables that other loops have.
    """
    where: dict[Entry, list[int]] = {}
    for i, entries in members.entries.items():
        for entry in _pairs(entries):
            if entry.paired == paired:
                where.setdefault(entry, []).append(i)
    lines: list[str] = []
    tables: list[TableView] = []
    rows = [
        e
        for e, at in where.items()
        if at == [*members.entries] and len(at) > 1 and isinstance(e.source, Checkpoint)
    ]
    at = _common([keys(e.source)[0] for e in rows])
    plain = [_below(_moved(e, stem), at) for e in rows]
    # Three lines need no table; where one would be broken, a table reads better.
    indent = 4 * (3 if paired else 2)
    short = max((len(_assign(e, shapes)[0]) for e in plain), default=0) <= 88 - indent
    if len(rows) > (3 if short else 2):
        tail = _common_tail([e.name for e in rows] + [keys(e.source)[0] for e in rows])
        name = stem.upper() if paired else f"{stem.upper()}_WHOLE"
        tables.append(TableView(name, tuple(_row(e, at, tail) for e in rows)))
        inner = _by_table(stem, tables[-1], at, tail)
        lines += _over_members(members, [*members.entries], inner)
        for e in rows:
            del where[e]
    by_range: dict[tuple[int, ...], list[Entry]] = {}
    for entry, numbers in where.items():
        by_range.setdefault(tuple(numbers), []).append(entry)
    for numbers, entries in by_range.items():
        at = _common([key for e in entries for key in keys(e.source)])
        plain = all(e.paired and isinstance(e.source, Checkpoint) for e in entries)
        rows = tuple(_row(e, at, ".{p}") for e in entries if plain)
        if table := next((t for t in known if t.rows == rows), None):
            inner = _by_table(stem, table, at, ".{p}")
            lines += _over_members(members, numbers, inner)
            continue
        moved, number = [_moved(e, stem) for e in entries], "{i}"
        if len(numbers) == 1:
            (here,) = numbers
            number = str(here)
            moved = [_numbered(e, here, members.numbers[here]) for e in moved]
        read = [key for e in moved for key in keys(e.source)]
        at = _common(read)
        inner = []
        if at and len(read) > 1:
            inner.append(f"at = {_text(at.removesuffix('.'))}")
            moved = [_below(e, at) for e in moved]
        if len(numbers) < len(members.entries):
            tables += _of_factored(moved, f"{stem}.{number}.", [*known, *tables])
        inner += _each(moved, f"{stem}.{number}.", shapes, [*known, *tables])
        lines += inner if len(numbers) == 1 else _over_members(members, numbers, inner)
    return lines, tables


def _by_table(stem: str, table: TableView, at: str, tail: str) -> list[str]:
    """The lines that load what a table names of a block."""
    to = _text(f"{stem}.{{i}}.{{p}}")[2:].partition("{p}")[0]
    return [
        f"at = {_text(at.removesuffix('.'))}",
        f"for ours, theirs in {table.name}.items():",
        f'    state[f"{to}{{ours}}{tail}"] = take(f"{{at}}.{{theirs}}{tail}")',
    ]


def _of_factored(
    entries: Sequence[Entry], block: str, known: Sequence[TableView]
) -> Iterator[TableView]:
    """Tables for linears that are factored in some blocks and read whole in others."""
    for one in _factored(entries, block):
        rows = _literals(one.names)
        if len(rows) > 2 and one.biases and rows not in [t.rows for t in known]:
            number = sum(t.name.startswith(LINEARS) for t in known) + 1
            name = LINEARS + (f"_{number}" if number > 1 else "")
            yield TableView(name, rows)


@dataclass(frozen=True)
class Factored:
    """Linears of a block that are factored alike, by their names here and there."""

    names: tuple[tuple[str, str], ...]
    made: tuple[Entry, ...]  # of one of them: {ours} and {theirs} for its names
    biases: tuple[Entry, ...]  # the same of its bias, where all have one or none has


def _factored(entries: Sequence[Entry], block: str) -> Iterator[Factored]:
    """Those of one form together. Where only some have a bias these stand by themselves,
    unless two loops are shorter."""
    forms: dict[tuple[Entry, ...], dict[tuple[Entry, ...], list[tuple[str, str]]]] = {}
    apart: Counter[tuple[Entry, ...]] = (
        Counter()
    )  # lines that biases by themselves take
    for entry in entries:
        if entry.beside is None:
            continue
        ours = _common([entry.name, entry.beside.name]).removesuffix(".")
        (key,) = keys(entry.source)
        theirs = key.removeprefix("{at}.").removesuffix(".weight")
        own = [e for e in entries if e.name.startswith(f"{ours}.")]
        form = [
            _mapped(
                e,
                lambda key, theirs=theirs: key.replace(theirs, "{theirs}"),
                lambda name, ours=ours: name.replace(ours, f"{block}{{ours}}"),
            )
            for e in own
        ]
        made = tuple(e for e in form if e.beside)
        biases = tuple(e for e in form if not e.beside)
        names = ours.removeprefix(block), theirs
        forms.setdefault(made, {}).setdefault(biases, []).append(names)
        for line in (_assign(e, {})[0] for e in own if not e.beside):
            apart[made] += 1 if len(line) <= 88 - 8 else 3
    for made, some in forms.items():
        # Another loop is six lines beside its names: two around these, the factors, a bias.
        if len(some) > 1 and apart[made] < 6 * (len(some) - 1):
            every = [names for each in some.values() for names in each]
            yield Factored(tuple(every), made, ())
            continue
        for biases, names in some.items():
            if len(names) > 1:
                yield Factored(tuple(names), made, biases)


def _each(
    entries: Sequence[Entry],
    block: str,
    shapes: Shapes,
    tables: Sequence[TableView] = (),
) -> list[str]:
    """The lines that fill parameters of a block: linears factored alike in one loop."""
    loops = [*_factored(entries, block)]
    done = {
        e.name.replace("{ours}", ours)
        for one in loops
        for e in (*one.made, *one.biases)
        for ours, _ in one.names
    }
    lines = []
    for entry in entries:
        if entry.name not in done:
            lines += _assign(entry, shapes)
    for one in loops:
        named = (t.name for t in tables if t.rows == _literals(one.names))
        lines.append(f"for ours, theirs in {_items(next(named, None), one.names)}:")
        for e in (*one.made, *one.biases):
            lines += ["    " + line for line in _assign(e, shapes)]
    return lines


def _items(table: str | None, names: Sequence[tuple[str, str]]) -> str:
    return f"{table}.items()" if table else py(tuple(names))


def _literals(names: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((py(ours), py(theirs)) for ours, theirs in names)


def _moved(entry: Entry, stem: str) -> Entry:
    """The entry of a block under the name that it has in the model."""
    return _mapped(entry, lambda key: key, lambda name: f"{stem}.{{i}}.{name}")


def _adapters(
    stem: str, added: Mapping[int, Sequence[Entry]], shapes: Shapes
) -> list[str]:
    """The loops that fill adapters: those of like shapes in one, by their names."""
    where: dict[tuple[str, tuple[Entry, ...]], list[int]] = {}
    for i, entries in added.items():
        for at in dict.fromkeys(map(_adapter_of, entries)):
            # What a length is of follows from its name, and need not tell them apart.
            alike = tuple(
                replace(
                    e,
                    name="{at}" + e.name.removeprefix(at),
                    source=NORMS if isinstance(e.source, Norms) else e.source,
                )
                for e in entries
                if _adapter_of(e) == at
            )
            where.setdefault((at, alike), []).append(i)
    loops: dict[tuple[int, ...], dict[tuple[Entry, ...], list[str]]] = {}
    # A copy's zeros come before the factors that take their sizes from them.
    for (at, alike), numbers in sorted(where.items(), key=lambda x: _reads(x[0][1])):
        loops.setdefault(tuple(numbers), {}).setdefault(alike, []).append(at)
    lines: list[str] = []
    for numbers, some in loops.items():
        number = "{i}" if len(numbers) > 1 else str(min(numbers))
        inner = []
        for alike, names in _of_one_form(some).items():
            inner += _filled(f"{stem}.{number}", alike, names, shapes)
        if len(numbers) > 1:
            inner = [_for_numbers(numbers), *("    " + line for line in inner)]
        lines += inner
    return lines


def _adapter_of(entry: Entry) -> str:
    """What is adapted, or the detour: a weight or a bias is new with all of its module."""
    whole = entry.name.endswith((".weight", ".bias"))
    return entry.stem.rpartition(".")[0] if whole else entry.stem


def _of_one_form(
    some: Mapping[tuple[Entry, ...], list[str]],
) -> Mapping[tuple[Entry, ...], list[str]]:
    """Adapters of linears of several shapes together, each by its linear's own sizes."""
    found: dict[tuple[Entry, ...], list[str]] = {}
    for alike, names in some.items():
        found.setdefault(tuple(map(_by_its_linear, alike)), []).extend(names)
    return found if len(found) < len(some) else some


def _by_its_linear(entry: Entry) -> Entry:
    """The entry of a factor, its shape by that of the weight that it stands beside."""
    match entry.name.rpartition(".")[2]:
        case "lora_a":
            return replace(entry, shape=(entry.shape[0], "ins"), sizes=())
        case "lora_b":
            return replace(entry, shape=("outs", entry.shape[1]), sizes=())
    return entry


def _reads(entries: Sequence[Entry]) -> bool:
    """Whether they are made from a weight that is loaded before."""
    return any(e.source == NORMS or _by_its_linear(e) != e for e in entries)


def _filled(
    block: str, alike: Sequence[Entry], names: Sequence[str], shapes: Shapes
) -> list[str]:
    """The lines that fill what adapters of these names in a block have."""
    loop = f"for at in ({', '.join(_text(f'{block}.{name}') for name in names)}):"
    at, short = "{at}", len(loop) <= LONG + 4
    if not short:
        loop, at = f"for at in {py(tuple(names))}:", f"{block}.{{at}}"
    if len(names) == 1:
        at = f"{block}.{names[0]}"
    weight = f"state[{_text(f'{at}.weight')}]"
    sized = any("ins" in e.shape for e in alike)
    lines = []
    if NORMS in (e.source for e in alike) and (sized or at != "{at}"):
        lines.append(f"weight = {weight}")
        weight = "weight"
    if sized:
        lines.append(f"outs, ins = {weight}.shape")
    for entry in alike:
        name = entry.name.replace("{at}", at)
        value = _assign(replace(entry, name=name), shapes)
        if entry.source == NORMS:
            value = [f"state[{_text(name)}] = {weight}.norm(dim=1)"]
        if len(value) == 1 and len(value[0]) > LONG:
            name, _, new = value[0].partition(" = ")
            value = [f"new = {new}", f"{name} = new"]
        lines += value
    if len(names) > 1:
        lines = [loop, *("    " + line for line in lines)]
    return lines


def _for_numbers(at: Sequence[int]) -> str:
    start = f"{at[0]}, " if at[0] else ""
    if [*at] == [*range(at[0], at[-1] + 1)]:
        return f"for i in range({start}{at[-1] + 1}):"
    return f"for i in {py(tuple(at))}:"


def _below(entry: Entry, at: str) -> Entry:
    """The entry with `{at}` for the start of its keys, a variable of the loader."""
    return _mapped(entry, lambda key: "{at}." + key.removeprefix(at))


def _over_members(
    members: Members, at: Sequence[int], lines: Sequence[str]
) -> list[str]:
    """A loop over the blocks with these numbers here."""
    several = range(at[0], at[-1] + 1)
    here = _for_numbers(at).removeprefix("for i in ").removesuffix(":")
    there = py(tuple(members.numbers[i] for i in at))
    if members.same or not any("{j}" in line for line in lines):
        head = f"for i in {here}:"
    elif [*at] == [*several]:
        head = f"for i, j in enumerate({there}{f', {at[0]}' if at[0] else ''}):"
    else:
        head = f"for i, j in zip({here}, {there}):"
    return [head, *("    " + line for line in lines)]


def _row(entry: Entry, prefix: str, tail: str) -> tuple[str, str]:
    (key,) = keys(entry.source)
    return (
        py(entry.name.removesuffix(tail)),
        py(key.removeprefix(prefix).removesuffix(tail)),
    )


def _common(names: Sequence[str]) -> str:
    """What all names start with, up to a dot."""
    shared = os.path.commonprefix(list(names))
    return shared[: shared.rfind(".") + 1]


def _common_tail(names: Sequence[str]) -> str:
    """The last part of all names, with its dot, where it is the same."""
    tails = {name.rpartition(".")[2] for name in names}
    return "." + tails.pop() if len(tails) == 1 else ""


def _numbered(entry: Entry, here: int, there: int) -> Entry:
    """The entry of one member, its numbers written out."""
    entry = _mapped(
        entry,
        lambda key: key.replace("{i}", str(there)).replace("{j}", str(there)),
        lambda name: name.replace("{i}", str(here)),
    )
    return replace(entry, source=_named(entry.source, here))


def _named(source: Source, here: int) -> Source:
    """The source with a block's number in the names of lists."""
    if isinstance(source, Take | Fold):
        source = replace(source, name=source.name.replace("{i}", str(here)))
    return map_children(source, lambda part: _named(part, here))


def _text(key: str) -> str:
    """A literal of a name; an f-string where the variable of a loop is in it."""
    literal = py(key)
    if not literal.startswith('"'):  # a key with a quote in it: none is known to be
        raise ValueError(f"not a name of a parameter: {key!r}")
    if not re.search(r"\{(i|j|p|at|ours|theirs)\}", literal):
        return literal
    quoted = literal.replace("{", "{{").replace("}", "}}")
    return "f" + re.sub(r"\{(\{(?:i|j|p|at|ours|theirs)\})\}", r"\1", quoted)


Shapes = dict[str, tuple[int, ...]]


def _assign(entry: Entry, shapes: Shapes) -> list[str]:
    """The lines that fill a parameter, or the two that are factors of one matrix."""
    match entry.source:
        case Init("kaiming", slope):
            a = "5**0.5" if slope == 5**0.5 else py(slope)
            return [
                f"empty = torch.empty({', '.join(entry.shape)})",
                f"state[{_text(entry.name)}] = nn.init.kaiming_uniform_(empty, {a})",
            ]
    value = _expression(entry.source, entry, shapes)
    lines = [f"state[{_text(entry.name)}] = {value}"]
    if entry.beside:
        (right,) = factors(entry.source)
        made = _expression(right.of, entry, shapes)
        return [
            f"reduce, expand = factors({made}, {right.rank})",
            *lines,
            *_assign(entry.beside, shapes),
        ]
    return lines


def _expression(source: Source, entry: Entry, shapes: Shapes) -> str:
    match source:
        case Checkpoint(key):
            return f"take({_text(key)})"
        case Concatenate(parts) if all(isinstance(p, Checkpoint) for p in parts):
            return f"take({', '.join(_text(k) for k in keys(source))})"
        case Concatenate(parts):
            inside = ", ".join(_expression(p, entry, shapes) for p in parts)
            return f"torch.cat([{inside}])"
        case Sum(parts):
            return " + ".join(_expression(p, entry, shapes) for p in parts)
        case Row(of, index):
            return f"{_inner(of, entry, shapes)}[{index}]"
        case Rows(of, start, stop):
            end = "" if stop == _rows(of, entry, shapes) else str(stop)
            return f"{_inner(of, entry, shapes)}[{start or ''}:{end}]"
        case Take(of, axis, name, index):
            which = _which(name, index)
            return f"{_inner(of, entry, shapes)}[{':, ' * axis}{which}]"
        case Fold(bias, matrix, vector, times, width, name, index):
            parts = [_expression(one, entry, shapes) for one in (bias, matrix, vector)]
            if times > 1:  # heads share what the vector says of each
                groups = f"unflatten(0, (-1, {width}))"
                parts[2] += f".{groups}.repeat_interleave({times}, 0).flatten()"
            return f"folded({', '.join(parts)}, {_which(name, index)})"
        case Transpose(of):
            return f"{_inner(of, entry, shapes)}.T.contiguous()"
        case Repeat(of, rows):
            return f"repeated({_expression(of, entry, shapes)}, {rows})"
        case Share(of, columns):
            return f"shared({_expression(of, entry, shapes)}, {columns})"
        case Noise(of, start, std):
            return f"noisy({_expression(of, entry, shapes)}, {start}, {py(std)})"
        case Gain(of, before, after):
            return f"regained({_expression(of, entry, shapes)}, {before}, {after})"
        case Tile(of, rows, first):
            return f"tiled({_expression(of, entry, shapes)}, {rows}, {first})"
        case Stretch(of, rows, first):
            return f"stretched({_expression(of, entry, shapes)}, {rows}, {first})"
        case Resize(of, before, after):
            return f"resized({_expression(of, entry, shapes)}, {before}, {after})"
        case Left():
            return "expand"
        case Right():
            return "reduce"
        case Norms():
            return "weight.norm(dim=1)"
        case Init("normal", std):
            sizes = ", ".join(entry.shape)
            return f"torch.randn({sizes}) * {py(std)}"
        case Init("constant", value) if value == 0:
            return f"torch.zeros({', '.join(entry.shape)})"
        case Init("constant", value):
            return f"torch.full(({', '.join(entry.shape)},), {py(value)})"
        case Tie(path):
            return f"state[{py(path)}]"
        case _:
            raise ValueError(f"not the source of a job's parameter: {source}")


def _which(name: str, index: Sequence[int]) -> str:
    """Code of a list of what is kept: itself, or where it stands."""
    if 0 < len(index) <= kept.FEW:
        return f"[{', '.join(map(str, index))}]"
    return f"kept[{_text(name)}]"


def _rows(source: Source, entry: Entry, shapes: Shapes) -> int:
    try:
        return shape_of(source, shapes, entry.sizes)[0]
    except ShapeError:  # a key with a loop's variable in it
        return -1


def _inner(source: Source, entry: Entry, shapes: Shapes) -> str:
    text = _expression(source, entry, shapes)
    return f"({text})" if isinstance(source, Sum) else text
