"""A fault for each template, and the tests that are to see it.

    python -m tests.building.faults     tries each; prints a line of JSON for each

The faults are slips that a hand might make: the template is still well formed, and what
it gives is still Python. Each is tried in a process of its own, forked from one that has
the heavy imports behind it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from generator.render import text

REPOSITORY = Path(__file__).resolve().parents[2]
# Written by what a run leaves behind, not into packages.
OF_RUNS = {"report.md.j2", "report.html.j2", "report.js"}


@dataclass(frozen=True)
class Fault:
    template: str
    old: str
    new: str
    tests: tuple[str, ...]  # arguments of pytest


def _parity(kind: str) -> tuple[str, ...]:
    return ("tests/parity/test_generated_models.py", "-k", kind)


def _edits(edit: str, test: str) -> tuple[str, ...]:
    return (f"tests/edits/test_{edit}.py", "-k", test)


def _data(test: str) -> tuple[str, ...]:
    return ("tests/package/test_data.py", "-k", test)


def _clean(test: str) -> tuple[str, ...]:
    return ("tests/package/test_clean.py", "-k", test)


def _augment(test: str) -> tuple[str, ...]:
    return ("tests/package/test_augment.py", "-k", test)


def _rows(test: str) -> tuple[str, ...]:
    return ("tests/package/test_rows.py", "-k", test)


def _guard(test: str) -> tuple[str, ...]:
    return ("tests/package/test_guard.py", "-k", test)


def _images(test: str) -> tuple[str, ...]:
    return ("tests/package/test_data_images.py", "-k", test)


def _train(test: str) -> tuple[str, ...]:
    return ("tests/package/test_train.py", "-k", test)


def _adapters(test: str) -> tuple[str, ...]:
    return ("tests/edits/test_adapters.py", "-k", test)


def _features(test: str) -> tuple[str, ...]:
    return ("tests/package/test_features.py", "-k", test)


def _export(file: str, test: str) -> tuple[str, ...]:
    return (f"tests/export/test_{file}.py", "-k", test)


CERTIFICATE = ("tests/package/test_certificate.py", "-k")
DEPLOY = ("tests/deploy/test_deploy.py", "-k")
STATIC = ("tests/deploy/test_static.py", "-k")
AWARE = ("tests/deploy/test_quantize_aware.py", "-k")
CARD = ("tests/building/test_determinism.py", "-k", "what_a_run_measured")
P = "partials/"
FAULTS = (
    # The model
    Fault(P + "model_classes.j2", "{{ line }}\n{% endfor %}\n{% for part",
          "{{ line.replace(' + ', ' - ') }}\n{% endfor %}\n{% for part",
          _parity("computes_what and electra")),
    Fault("model.py.j2", "    {{ factor }},", "    1.0,",
          ("tests/building/test_faults.py", "-k", "tables_of_positions")),
    Fault(P + "model_loader.py.j2", "return torch.cat(parts) if",
          "return torch.cat(parts[::-1]) if",
          _parity("computes_what and electra")),
    Fault(P + "model_dropout.py.j2", ".mul_(2**16 / keep)", "",
          ("tests/parity/test_dropout.py", "-k", "what_is_kept")),
    Fault(P + "model_lora_linear.py.j2", "(x @ self.lora_a.T @ self.lora_b.T)", "0",
          _adapters("lora-bert and interpreter")),
    Fault(P + "model_dora_linear.py.j2", "v.norm(dim=1)", "(2 * v.norm(dim=1))",
          _adapters("dora-bert and interpreter")),
    Fault(P + "model_ia3_linear.py.j2", "x * self.gain", "x",
          _adapters("ia3-bert and interpreter")),
    Fault(P + "model_low_rank_linear.py.j2", "self.expand(self.reduce(x))", "self.expand(2 * self.reduce(x))",
          _edits("low_rank", "equal_to_the_reference and bert")),
    Fault(P + "model_merge.py.j2", "part.weight += part.scale * part.lora_b @ part.lora_a", "pass",
          _adapters("two_steps and lora")),
    Fault(P + "certificate_distill.j2", "+ (1 - TEACHER)\n{% endif %}\n", "\n{% endif %}\n",
          ("tests/package/test_distill.py", "-k", "certificate")),
    Fault(P + "certificate_adapters.j2", "module.merged = True", "pass",
          _adapters("faults_show and logits")),
    Fault(P + "model_last_index.py.j2", "mask.sum(dim=1) - 1", "mask.sum(dim=1) - 2",
          _parity("without_a_padding_token")),
    Fault(P + "model_last_index_of_text.py.j2", "mask & (ids != padding)", "mask",
          _parity("spelt and llama")),
    Fault(P + "model_keys_until.py.j2", "places <= index", "places < index",
          _parity("computes_what and llama")),
    Fault(P + "model_token_places.py.j2", "* real + padding", "+ padding",
          _parity("spelt and roberta")),
    Fault(P + "model_pick.py.j2", "index[:, None, None]", "0 * index[:, None, None]",
          _parity("computes_what and llama")),
    Fault(P + "model_mean.py.j2", "real.sum(dim=1)", "x.sum(dim=1)", _edits("pool", "mean")),
    Fault(P + "model_largest.py.j2", "~mask[:, :, None]", "mask[:, :, None]",
          _edits("pool", "max")),
    Fault(P + "model_weighted_mean.py.j2", "softmax(dim=1)", "softmax(dim=2)",
          _edits("pool", "attention")),
    Fault(P + "model_mean_dropout.py.j2", "range(samples)", "range(1)",
          _edits("head", "several_masks")),
    Fault(P + "model_rotate.py.j2", "[-b, a]", "[b, -a]",
          _parity("computes_what and llama")),
    Fault(P + "model_rope_end.j2", "angles.cos(), angles.sin()",
          "angles.sin(), angles.cos()", _parity("computes_what and llama")),
    Fault(P + "model_rope_default.py.j2", "frequency = 1 / ", "frequency = 2 / ",
          ("tests/building/test_faults.py", "-k", "tables_of_positions")),
    Fault(P + "model_rope_linear.py.j2", ") / {{ view.rope.attrs", ") * {{ view.rope.attrs",
          _parity("computes_what and llama")),
    Fault(P + "model_rope_llama3.py.j2", "kept + (1 - kept)", "(1 - kept) + kept",
          _parity("computes_what and llama")),
    Fault(P + "model_rope_yarn.py.j2", "1 - stretched + stretched",
          "stretched + (1 - stretched)", _parity("computes_what and llama")),
    Fault(P + "model_rope_longrope.py.j2", "frequency / torch", "frequency * torch",
          ("tests/building/test_faults.py", "-k", "tables_of_positions")),
    # The data
    Fault("data.py.j2", "{{ line }}\n", "{{ line.replace('import csv', '') }}\n",
          _data("csv_by_the_book")),
    Fault(P + "data_body.j2", "if column in header:", "if column not in header:",
          _data("csv_by_the_book")),
    Fault(P + "data_apart.j2", 'order = ("test", "valid", "train")',
          'order = ("train", "valid", "test")', _data("no_text_is_learned")),
    Fault(P + "data_batches.j2", "1_000_003 + epoch", "1_000_003",
          _data("an_epoch_has")),
    Fault(P + "data_clean.j2", "if text == start:", "if True:", _clean("twice")),
    Fault(P + "data_clean_constants.j2", "PASSES = 8", "PASSES = 9", _clean("come_to_an_end")),
    Fault(P + "data_clean_counts.j2", "[path] += 1", "[path] += 2", _clean("step_alone")),
    Fault(P + "data_clean_distinct.j2", "~new", "new",
          _clean("duplicates_leave")),
    Fault(P + "data_clean_near.j2", "for other in sorted(others) if", "for other in () if",
          ("tests/package/test_near.py",)),
    Fault(P + "data_clean_html.j2", 'tag["inline"] else " "', 'tag["inline"] else ""',
          _clean("alone and html")),
    Fault(P + "data_clean_invisible.j2", "\\u202a-\\u202e", "\\u202a-\\u202d",
          _clean("alone and invisible")),
    Fault(P + "data_clean_lengths.j2", "> MAX_CHARS", ">= MAX_CHARS + 2",
          _clean("too_long_in_characters")),
    Fault(P + "data_clean_language.j2", "found not in", "found in", _clean("languages")),
    Fault(P + "data_raw.j2", "raise BadRow", "raise TypeError", _features("cannot_be_used")),
    Fault("features.py.j2", "{{ line }}\n", "{{ line.replace('import re2', '') }}\n",
          _features("numbers_of_a_text")),
    Fault(P + "features_body.j2", "(scaled - mean) / deviation", "(scaled - mean)",
          _features("standardised")),
    Fault(P + "features_length.j2", "len(text)", "len(text.split())",
          _features("numbers_of_a_text")),
    Fault(P + "features_capitals.j2", "str.isupper", "str.islower",
          _features("numbers_of_a_text")),
    Fault(P + "features_digits.j2", "str.isdigit", "str.isalnum",
          _features("numbers_of_a_text")),
    Fault(P + "features_punctuation.j2", '"P"', '"L"', _features("numbers_of_a_text")),
    Fault(P + "certificate_rows.j2", "row[{{ column | py }}]", "row['no']",
          _features("certificate_holds and bert")),
    Fault(P + "data_clean_mask.j2", "<>\\\"]*[\\w/]", "<>\\\"]*", _clean("alone and mask")),
    Fault(P + "data_clean_tokens.j2", "< MIN_TOKENS", "<= MIN_TOKENS", _clean("missing")),
    Fault("guard.py.j2", "{{ line }}\n", "{{ line.replace('import math', '') }}\n",
          _guard("every_leak")),
    Fault(P + "guard_body.j2", ".casefold()", "", _guard("contradictions_leave")),
    Fault(P + "guard_contradictions.j2", "!= row.target", "== row.target",
          _guard("contradictions_leave")),
    Fault(P + "guard_leaks.j2", "- needed(found) + PREFIX", "- needed(found)",
          _guard("every_leak")),
    Fault(P + "guard_triggers.j2", "count - p.sum()", "p.sum() - count",
          _guard("triggers_are_told")),
    Fault(P + "guard_spectral.j2", "axes[:, -1]", "axes[:, 0]",
          _guard("spectral_finds")),
    Fault(P + "guard_label_noise.j2", "p >= sure", "p >= 0 * sure",
          _guard("is_confident_learning")),
    Fault(P + "guard_outliers.j2", "scores > FAR", "scores > -FAR", _guard("outliers_are")),
    Fault(P + "guard_personal.j2", "if kinds:", "if not kinds:", _guard("personal_data")),
    Fault(P + "guard_formulas.j2", "[=@", "[@", _guard("formulas")),
    Fault(P + "guard_oversized.j2", "400 * MAX", "40 * MAX", _guard("oversized_texts")),
    Fault(P + "guard_features.j2", "real[..., None]).sum(dim=1)",
          "real[..., None]).sum(dim=1) * 2", _guard("features_are")),
    Fault(P + "guard_inspect.j2", "setdefault(one.row", "setdefault(one.row + 1",
          _guard("contradictions_leave")),
    Fault(P + "data_guard.j2", "kept[list(gone)] = False", "kept[list(gone)] = True",
          _guard("contradictions_leave")),
    Fault(P + "data_personal.j2", "% 97 == 1", "% 97 == 2", _guard("personal_data")),
    Fault(P + "data_clean_unicode.j2", "normalize({{", "normalize('NFC' or {{",
          _clean("alone and unicode")),
    Fault(P + "data_clean_whitespace.j2", "text.split()", "text.split(' ')",
          _clean("alone and whitespace")),
    Fault(P + "data_csv.j2", "strict=True", "strict=False", _data("cannot_be_used")),
    Fault(P + "data_tsv.j2", 'split("\\t")', "split()", _data("tabs")),
    Fault(P + "data_json_record.j2", "if not isinstance(row, dict):",
          "if isinstance(row, int):", _data("json_lines")),
    Fault(P + "data_jsonl.j2", 'b""), 1)', 'b""))',
          _data("json_lines")),
    Fault(P + "data_parquet.j2", "errors=\"surrogateescape\"", "errors=\"replace\"",
          _data("parquet")),
    Fault(P + "data_input_text.j2", "not text.strip()", "not text",
          _data("cannot_be_used")),
    Fault(P + "data_input_pair.j2", "record, TEXTS[1]", "record, TEXTS[0]",
          ("tests/package/test_predict.py", "-k", "pairs")),
    Fault(P + "data_input_image.j2", "folder / name", "name / folder", _images("cannot_be_used")),
    Fault(P + "data_load.j2", "if not found]:", "if found is None]:",
          _data("cannot_serve")),
    Fault(P + "data_read_text.j2", "quarantine.add(name, record.line", "quarantine.add("
          "path.name, record.line + 1", _data("cannot_be_used")),
    Fault(P + "data_read_image.j2", "known.result()", "known.result()[::-1] and ''",
          _images("cannot_be_used")),
    Fault(P + "data_split.j2", "asked[split] += share * count", "asked[split] += share",
          _data("stratified")),
    Fault(P + "data_target_label.j2", "return NUMBERS[label]",
          "return len(NUMBERS) - 1 - NUMBERS[label]", _data("csv_by_the_book or movie")),
    Fault(P + "data_target_labels.j2", "float(i in found)", "float(i not in found)",
          _data("several_labels")),
    Fault(P + "data_memory.j2", "{SEED} {same(row)}", "{same(row)}",
          _rows("in_memory")),
    Fault(P + "data_held.j2", "if not path.exists():", "if path.exists():",
          _images("in_the_rows")),
    Fault(P + "data_target_flags.j2", "found.append(MARKS[mark])",
          "found.append(1 - MARKS[mark])", _data("columns_of_0_and_1")),
    Fault(P + "data_target_values.j2", "for column in TARGETS:",
          "for column in TARGETS[::-1]:", _data("values")),
    Fault(P + "data_tokens.j2", "place < lengths", "place <= lengths",
          _data("batches_hold")),
    Fault(P + "data_pairs.j2", "if sizes[0] > sizes[1]", "if sizes[0] < sizes[1]",
          _data("pairs")),
    Fault(P + "data_image_constants.j2", "CROP_HEIGHT, CROP_WIDTH =",
          "CROP_WIDTH, CROP_HEIGHT =", _images("pixels")),
    Fault(P + "data_parts.j2", "records, None))", "0, None))", _rows("stopped")),
    Fault("rows.py.j2", "{{ line }}\n", "{{ line.replace('import struct', '') }}\n",
          _data("csv_by_the_book")),
    Fault(P + "rows_body.j2", "2 ** (bits - 1) == part", "2**bits == part", _rows("keys")),
    Fault(P + "rows_text.j2", "count.cumsum(0) + count", "count.cumsum(0)",
          _rows("sequence")),
    Fault(P + "rows_memory.j2", "x[kept]", "x", _images("cannot_be_used")),
    Fault(P + "data_pixels.j2", "x - MEAN", "x + MEAN", _images("pixels")),
    Fault(P + "data_recode.j2", "level * (1 / 257)", "level * (1 / 200)",
          _images("cleaned_pixels_are_those_that_a_viewer_shows")),
    # What is written for other programs
    Fault("export.py.j2", "{{ line }}\n", "{{ line.replace('import shutil', '') }}\n",
          _export("graphs", "the_program")),
    Fault(P + "export_body.j2", "differ += int({{ view.others }})", "differ += 1",
          _export("graphs", "the_program")),
    Fault(P + "export_products.j2", "+ 128.5).floor()", "+ 128).floor()",
          _export("deployed", "by_torch and pairs")),
    Fault(P + "export_names.j2", "{{ name.theirs | py }}", "{{ name.theirs[::-1] | py }}",
          _export("transformers", "computes_the_same and roberta")),
    Fault(P + "export_transformers.j2", "table[number] = part", "table[-1] = part",
          _export("transformers", "computes_the_same and electra")),
    Fault("onnx_example.py.j2", "{{ line }}\n", "{{ line.replace('import json', '') }}\n",
          _export("example", "texts")),
    Fault(P + "onnx_example_body.j2", 'row.attention_mask for row', '[not m for m in row.attention_mask] for row',
          _export("example", "texts and not pairs")),
    Fault("calibrate.py.j2", "{{ line }}\n", "{{ line.replace('import math', '') }}\n",
          _export("calibrate", "temperature")),
    Fault(P + "calibrate_body.j2", "edges[:-1] + edges[1:]) / 2", "edges[:-1] + edges[1:]) / 3",
          _export("calibrate", "no_other")),
    # The augmentation
    Fault("augment.py.j2", "{{ line }}\n", "{{ line.replace('import functools', '') }}\n",
          _augment("whole")),
    Fault(P + "augment_body.j2", "SPAN_MASK = {{", "SPAN_MASK = 1.1 * {{",
          _augment("spans")),
    Fault(P + "augment_text.j2", "or begins_word(token)", "or not begins_word(token)",
          _augment("whole")),
    Fault(P + "augment_synonyms.j2", "more <= room", "more <= room + 2", _augment("synonyms")),
    Fault(P + "augment_paraphrases.j2", "if n not in leaks", "if n not in ()",
          _augment("cannot_be_used")),
    Fault(P + "augment_mix.j2", "(1 - share) * logits", "(1 + share) * logits",
          _augment("mixing")),
    Fault(P + "augment_image.j2", "kwargs or {}), **drawn", "kwargs or {})",
          ("tests/package/test_augment_images.py", "-k", "touch_the_numbers")),
    # Training
    Fault("train.py.j2", "STOPPED, GAVE_UP = 75, 76", "STOPPED, GAVE_UP = 76, 75",
          _train("signal")),
    Fault(P + "train_forward.j2", "loss = criterion(model(",
          "loss = -criterion(model(", ("tests/building/test_faults.py", "-k", "descends")),
    Fault(P + "train_step.j2", "    if not bad:\n", "    if bad or not bad:\n",
          _train("not_finite")),
    Fault(P + "train_focal.j2", "(1 - targets) * missing", "targets * missing",
          _train("focal and several")),
    Fault(P + "train_standardise.j2", "(guesses - targets) / self.scale", "(guesses - targets)",
          _edits("standardise", "mean_and_the_deviation")),
    Fault(P + "train_optimizer.j2", "* (steps - step)", "* step",
          _train("schedules")),
    Fault(P + "train_stage.j2", "    warmup: float", "    warm_up: float",
          ("tests/package/test_stages.py", "-k", "again and text")),
    Fault(P + "train_main.j2", "state.step += 1", "state.step += 2",
          _train("run_from")),
    Fault(P + "train_average.j2", "(1 + steps) / (10 + steps)", "(1 + steps) / (2 + steps)",
          ("tests/package/test_average.py", "-k", "by_its_definition")),
    Fault(P + "train_cache.j2", "* (place < lengths)", "* (place > lengths)",
          ("tests/package/test_cache.py", "-k", "prefix_gives and text")),
    Fault(P + "train_once.j2", "file.seek(i * row.nbytes)", "file.seek(0)",
          ("tests/package/test_distill.py", "-k", "what_the_teacher_says")),
    Fault(P + "train_distill.j2", "TEACHER * TEMPERATURE**2 * apart", "TEACHER * apart",
          ("tests/package/test_distill.py", "-k", "loss_of")),
    Fault(P + "train_inside.j2", "(log_p.exp() * (log_p - log_q))", "(log_q.exp() * (log_q - log_p))",
          ("tests/package/test_inside.py", "-k", "definition")),
    Fault("teacher.py.j2", "model.load_state_dict(load_file(path))", "load_file(path)",
          ("tests/package/test_distill.py", "-k", "what_the_teacher_says")),
    Fault(P + "train_checkpoint.j2", "reverse=True", "reverse=False",
          _train("damaged_checkpoint")),
    Fault(P + "train_metrics_labels.j2", "targets * K + logits",
          "targets + K * logits", _train("figures_of_labels")),
    Fault(P + "train_metrics_many_labels.j2", "descending=True", "descending=False",
          _train("figures_of_many_labels")),
    Fault(P + "train_metrics_multilabel.j2", "targets > 0.5", "targets > -0.5",
          _train("figures_of_several")),
    Fault(P + "train_metrics_regression.j2", ".abs().mean()", ".mean()",
          _train("figures_of_values")),
    # Prediction, the certificate and the bench
    Fault("predict.py.j2", "{{ line }}\n", "{{ line.replace('import json', '') }}\n",
          ("tests/package/test_predict.py", "-k", "json_lines")),
    Fault(P + "predict_body.j2", "found.argmax(1)", "found.argmin(1)",
          ("tests/package/test_predict.py", "-k", "answers_are")),
    # The deployed model
    Fault("deploy.py.j2", "{{ line }}\n", "{{ line.replace('import statistics', '') }}\n",
          (*DEPLOY, "program")),
    Fault(P + "deploy_body.j2", "if out.resolve() == weights.resolve():", "if out is None:",
          (*DEPLOY, "the_program")),
    Fault(P + "deploy_int8_forward.j2", "value=127", "value=126", (*DEPLOY, "by_hand")),
    Fault(P + "deploy_int8.j2", "(linear.out_features)", "(linear.in_features)",
          (*DEPLOY, "by_hand")),
    Fault(P + "deploy_int8_static.j2", "*self.given, self.weight", "self.given[0], 128, self.weight",
          (*STATIC, "beyond")),
    Fault(P + "deploy_static.j2", "zero + 0.5", "zero", (*DEPLOY, "by_hand and static")),
    Fault(P + "deploy_ranges.j2", "max(ends[name][1], high.item())", "high.item() / 2",
          (*STATIC, "the_ends")),
    Fault(P + "deploy_dynamic.j2", "more.std()", "0 * more.std()", (*STATIC, "chance")),
    Fault(P + "deploy_write_ranges.j2", "about | {", "{", (*STATIC, "the_program")),
    Fault(P + "deploy_parts.j2", "{{ line }}", "{{ line.replace('ff.', '') }}",
          (*DEPLOY, "by_hand and int8-weights")),
    Fault(P + "deploy_rounded.j2", "weight.abs().amax(1) / 127", "weight.abs().amax(1) / 120",
          (*DEPLOY, "by_hand")),
    Fault(P + "deploy_halved.j2", "(packed & 15).float(), (packed >> 4)", "(packed >> 4).float(), (packed & 15)",
          (*DEPLOY, "by_hand")),
    Fault(P + "deploy_grouped.j2", "/ 127", "/ 120", (*DEPLOY, "by_hand")),
    # Training that rounds
    Fault("quantize_aware.py.j2", "{{ line }}\n", "{{ line.replace('import torch.nn', '# ') }}\n",
          (*AWARE, "int8-weights")),
    Fault(P + "quantize_aware_body.j2", "(x - x.detach())", "(x - x.detach()) * 0.9",
          (*AWARE, "gradients")),
    Fault(P + "quantize_aware_product.j2", ".clamp(-zero * step, (255 - zero) * step)", "",
          (*AWARE, "gradients")),
    Fault(P + "deploy_int8_weights.j2", "self.step[:, None]", "self.step.mean()",
          (*DEPLOY, "by_hand")),
    Fault(P + "deploy_int4_weights.j2", "[:, : self.ins]", "", (*DEPLOY, "by_hand")),
    Fault(P + "deploy_table.j2", "self.step[ids]", "self.step[ids].round(decimals=4)",
          (*DEPLOY, "tables")),
    Fault(P + "load_trained.j2", "no weights at {path}", "no weights", (*DEPLOY, "program")),
    Fault(P + "certificate_deployed.j2", "off.abs() / step", "off.abs() / step / 10",
          (*DEPLOY, "every_kind")),
    Fault("test_model.py.j2", "{{ line }}\n", "{{ line.replace('Config, ', '') }}\n",
          (*CERTIFICATE, "holds and bert")),
    Fault(P + "certificate_body.j2", "EXACT, SINGLE = 1e-9", "EXACT, SINGLE = 1e9",
          (*CERTIFICATE, "faults")),
    Fault(P + "certificate_surgery.j2", "return expand.T @ x, x @ reduce.T",
          "return expand.T @ x, x @ -reduce.T", (*CERTIFICATE, "edited and bert")),
    Fault(P + "certificate_serving_text.j2", "expected[batch.rows] =", "expected[:] =",
          (*CERTIFICATE, "holds and bert")),
    Fault(P + "certificate_serving_image.j2", "list(answer.", "sorted(answer.",
          (*CERTIFICATE, "holds and vit")),
    Fault("bench.py.j2", "{{ line }}\n", "{{ line.replace('import math', '') }}\n",
          ("tests/package/test_bench.py", "-k", "clean or measures")),
    Fault(P + "bench_body.j2", "if name == BEST:  # the", "if name != BEST:  # the",
          ("tests/package/test_bench.py", "-k", "contender")),
    # And what a user reads and imports first
    Fault("init.py.j2", "Config, Model, load", "Config, load",
          ("tests/building/test_commands.py", "-k", "vendored")),
    Fault("README.md.j2", "{% for row in view.measured %}", "{% for row in view.recipe %}",
          CARD),
)  # fmt: skip


def faulty_environment(fault: Fault) -> jinja2.Environment:
    """The environment of rendering, with the fault planted."""
    source = (text.TEMPLATES / fault.template).read_text(encoding="utf-8")
    assert source.count(fault.old) >= 1, f"{fault.template} has no {fault.old!r}"
    planted = jinja2.DictLoader({fault.template: source.replace(fault.old, fault.new)})
    real = text.environment()
    assert real.loader is not None
    loader = jinja2.ChoiceLoader([planted, real.loader])
    return real.overlay(loader=loader, cache_size=400)


def plant(fault: Fault) -> None:
    environment = faulty_environment(fault)
    text.environment = lambda: environment  # type: ignore[assignment]


def _outcome(fault: Fault) -> int:
    """pytest's exit code in a fork: 0 where all tests pass, 1 where one fails."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code: Any = 70
    try:
        import pytest

        plant(fault)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
            code = pytest.main([*options, *fault.tests])
    finally:
        os._exit(int(code))


def main() -> None:
    import torch  # noqa: F401
    import transformers.models.bert.modeling_bert
    import transformers.models.llama.modeling_llama  # noqa: F401

    os.chdir(REPOSITORY)
    wanted = sys.argv[1:]
    for fault in FAULTS:
        if wanted and not any(word in fault.template for word in wanted):
            continue
        code = _outcome(fault)
        print(json.dumps({"template": fault.template, "code": code}), flush=True)


if __name__ == "__main__":
    main()
