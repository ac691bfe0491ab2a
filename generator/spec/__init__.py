"""The spec: what a user writes, read and checked."""

from generator.spec.explain import explain_defaults
from generator.spec.model import Backbone, Data, Spec, Target, Train
from generator.spec.reader import SpecFile, decode_spec, read_spec
from generator.spec.reference import reference_markdown
from generator.spec.schema import json_schema
from generator.spec.source import parse_source

__all__ = [
    "Backbone",
    "Data",
    "Spec",
    "SpecFile",
    "Target",
    "Train",
    "decode_spec",
    "explain_defaults",
    "json_schema",
    "parse_source",
    "read_spec",
    "reference_markdown",
]
