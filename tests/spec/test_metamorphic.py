"""What does not change the meaning of a spec does not change the Spec."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from spec_strategies import quick, valid_specs, write_toml

from generator.spec import Spec, explain_defaults, read_spec
from generator.spec.entries import SECTIONS, entries
from generator.spec.words import toml


def spec_of(text: str) -> Spec:
    return read_spec(text, "spec.toml").spec


def shuffled(draw: Any, table: dict[str, Any]) -> dict[str, Any]:
    return {name: table[name] for name in draw(st.permutations(list(table)))}


@quick
@given(valid_specs(), st.data())
def test_order_does_not_matter(values: dict[str, Any], data: st.DataObject) -> None:
    other = {
        name: shuffled(data.draw, v) if isinstance(v, dict) else v
        for name, v in shuffled(data.draw, values).items()
    }
    assert spec_of(write_toml(other)) == spec_of(write_toml(values))


@quick
@given(valid_specs())
def test_comments_and_layout_do_not_matter(values: dict[str, Any]) -> None:
    text = write_toml(values)
    spec = spec_of(text)
    noisy = "".join(f"# [x] {i} = '\n  {line} # \"\n\n" for i, line in _lines(text))
    assert spec_of("\ufeff#:schema x.json\n" + noisy) == spec
    assert spec_of(text.replace("\n", "\r\n")) == spec


def _lines(text: str) -> list[tuple[int, str]]:
    return list(enumerate(text.split("\n")))


@quick
@given(valid_specs())
def test_forms_of_tables_do_not_matter(values: dict[str, Any]) -> None:
    spec = spec_of(write_toml(values))
    dotted, inline = [], []
    for name, value in values.items():
        if not isinstance(value, dict):
            dotted.append(f"{name} = {toml(value)}")
            inline.append(f"{name} = {toml(value)}")
            continue
        inside = [f"{k} = {toml(v)}" for k, v in value.items()]
        dotted += [f"{name}.'{k}' = {toml(v)}" for k, v in value.items()]
        inline.append(f"{name} = {{ {', '.join(inside)} }}")
    assert spec_of("\n".join(dotted)) == spec
    assert spec_of("\n".join(inline)) == spec


@quick
@given(valid_specs())
def test_defaults_may_be_written_out(values: dict[str, Any]) -> None:
    text = write_toml(values)
    explained = explain_defaults(read_spec(text, "spec.toml"))
    assert spec_of(explained) == spec_of(text)
    # Once all is written out, there is nothing left to fill in.
    again = explain_defaults(read_spec(explained, "spec.toml"))
    assert again == explained.replace("  # default", "")
    assert "# default" not in again


@quick
@given(valid_specs())
def test_what_is_given_is_what_is_read(values: dict[str, Any]) -> None:
    spec_file = read_spec(write_toml(values), "spec.toml")
    for entry in entries():
        table = values.get(entry.section, {}) if entry.section else values
        owner = getattr(spec_file.spec, entry.section) if entry.section else None
        read = getattr(owner or spec_file.spec, entry.attribute)
        assert (entry.path in spec_file.given) == (entry.name in table)
        if entry.name in table:
            value = table[entry.name]
            single = entry.key.single and isinstance(value, str)
            value = (value,) if single else value
            assert read == (tuple(value) if isinstance(value, list) else value)
        elif entry.key.unless and entry.key.unless in table:
            assert read is None
        else:
            assert read == entry.default


def test_every_default_is_shown() -> None:
    text = """
name = "job"
task = "text-classification"
labels = ["a", "b"]
[backbone]
from = "models/x"
[data]
train = "a.csv"
text = "t"
label = "l"
"""
    shown = explain_defaults(read_spec(text, "spec.toml"))
    for entry in entries():
        if "text-classification" in entry.key.tasks:
            assert f"\n{entry.name} = " in "\n" + shown.replace("# ", "")
            assert entry.key.doc.split()[0] in shown
    assert 'name = "job"\n' in shown
    assert "lr = 5e-05  # default\n" in shown
    assert "# dropout = 0.1  # not given\n" in shown
    assert "separator" not in shown and "image =" not in shown
    assert all(f"[{s}]" in shown for s in SECTIONS if s)
    assert all(len(line) <= 88 for line in shown.split("\n"))


def test_long_lists_are_shown_over_several_lines() -> None:
    labels = [f"a label of some length {i} \u202e \"'\\" for i in range(9)]
    text = (
        f'name = "job"\ntask = "multi-label"\nlabels = {toml(labels)}\n'
        '[backbone]\nfrom = "models/x"\n'
        '[data]\ntrain = "a.csv"\ntext = ["t", "u"]\nlabel = "l"\n'
    )
    spec_file = read_spec(text, "spec.toml")
    shown = explain_defaults(spec_file)
    assert '\nlabels = [\n    "a label of some length 0 \\u202E' in shown
    assert spec_of(shown) == spec_file.spec
