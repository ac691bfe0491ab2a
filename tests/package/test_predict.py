"""predict.py as it is generated: the API, and the command on files and pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_support import (
    PAIR,
    SINGLE,
    TYPED,
    load_package,
    make_job,
    quarantined,
    some_texts,
    tiny_tokenizer,
    write_csv,
    write_jsonl,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers


def ready(folder: Path, job=None):
    """The modules of a package, and the file with its weights."""
    job = job or make_job()
    data, predict = load_package(folder, job)
    torch.manual_seed(1)
    weights = folder / f"{job.name}.safetensors"
    save_file(predict.Model().state_dict(), weights)
    return data, predict, weights


def run(predict, folder: Path, *arguments: str | Path) -> tuple[int, list[dict]]:
    """The exit code of the command, and what it wrote."""
    out = folder / "out.jsonl"
    out.unlink(missing_ok=True)
    code = predict.main([*map(str, arguments), "--output", str(out)])
    text = out.read_text() if out.exists() else ""
    return code, [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_answers_are_in_order_and_do_not_depend_on_company(tmp_path, batch):
    _, predict, weights = ready(tmp_path)
    predictor = predict.Predictor(weights, batch=batch)
    texts = some_texts(40) + ["film", "a " * 30]
    together = predictor.predict(texts)
    assert len({p.probabilities["yes"] for p in together}) > 30
    for text, found in zip(texts, together, strict=True):
        (alone,) = predictor.predict([text])
        assert found.label == alone.label
        assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
        assert sum(found.probabilities.values()) == pytest.approx(1)
        assert found.label == max(
            found.probabilities, key=found.probabilities.__getitem__
        )
    assert predictor.predict([]) == []


def test_serving_prepares_rows_as_training_does(tmp_path):
    data, predict, weights = ready(tmp_path, make_job(files=("train.csv", None, None)))
    texts = some_texts(60)
    rows = [(t, ("no", "yes")[i % 2]) for i, t in enumerate(texts)]
    write_csv(tmp_path / "train.csv", [("text", "label"), *rows])
    splits = data.load_splits(tmp_path, tmp_path / "work")
    predictor = predict.Predictor(weights)
    trained = {}
    with torch.inference_mode():
        for split in splits:
            for batch in data.evaluation_batches(split):
                scores = predictor.model(*batch.inputs).softmax(1)[:, 1].tolist()
                for row, score in zip(batch.rows.tolist(), scores):
                    start, length = split.tokens.starts[row], split.tokens.lengths[row]
                    key = tuple(split.tokens.ids[start : start + length].tolist())
                    trained[key] = score
    for text, found in zip(texts, predictor.predict(texts)):
        key = tuple(data.tokenizer().encode(text).ids)
        assert found.probabilities["yes"] == pytest.approx(trained[key], abs=1e-6)


@pytest.mark.parametrize("inputs", [PAIR, TYPED])
def test_pairs(tmp_path, inputs):
    _, predict, weights = ready(tmp_path, make_job(inputs))
    predictor = predict.Predictor(weights)
    one, other = predictor.predict([("a fine film", "of year"), ("of year", "a film")])
    assert one.probabilities != other.probabilities
    rows = [{"first": "a fine film", "second": "of year"}, {"first": "a film"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    code, found = run(
        predict, tmp_path, "--input", tmp_path / "rows.jsonl", "--weights", weights
    )
    assert code == 1
    assert found[0]["probabilities"] == pytest.approx(one.probabilities, abs=1e-6)
    assert found[1] == {"line": 2, "error": '"second" is empty or not a text'}


def without_frame() -> Tokenizer:
    """One that puts nothing around a text, and drops snowmen."""
    found = tiny_tokenizer()
    found.post_processor = None  # type: ignore[assignment]
    found.normalizer = normalizers.Replace("\u2603", "")  # type: ignore[assignment]
    return found


@pytest.mark.parametrize("rows", ["memory", "files"])
def test_a_text_without_a_token(rows, tmp_path):
    job = make_job(
        replace(SINGLE, bare=True), files=("train.csv", None, None), rows=rows
    )
    data, predict = load_package(tmp_path, job, without_frame())
    weights = tmp_path / "model.safetensors"
    save_file(predict.Model().state_dict(), weights)
    texts = [*some_texts(30), "\u2603", " \u2603 \u2603"]
    labels = [("no", "yes")[i % 2] for i in range(len(texts))]
    write_csv(tmp_path / "train.csv", [("text", "label"), *zip(texts, labels)])
    splits = data.load_splits(tmp_path, tmp_path / "work")
    assert sum(map(len, splits)) == 30
    assert all(int(split.tokens.lengths.min()) > 0 for split in splits)
    aside = quarantined(tmp_path / "work")
    assert [row["line"] for row in aside] == [32, 33]
    assert {row["reason"] for row in aside} == {'"text" gives no token'}
    write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts[-3:]])
    code, found = run(
        predict, tmp_path, "--input", tmp_path / "rows.jsonl", "--weights", weights
    )
    assert code == 1 and found[0]["label"] in ("no", "yes")
    assert [row["error"] for row in found[1:]] == ['"text" gives no token'] * 2
    with pytest.raises(data.BadRow, match="a text gives no token"):
        predict.Predictor(weights).predict(texts)


def test_a_pair_without_a_token(tmp_path):
    data, _ = load_package(
        tmp_path, make_job(replace(PAIR, bare=True)), without_frame()
    )
    for first, second in (("\u2603", "a film"), ("a film", "\u2603")):
        record = data.Record(1, {"first": first, "second": second})
        assert data.text_of(record) == (first, second)
    with pytest.raises(data.BadRow, match="neither text gives a token"):
        data.text_of(data.Record(1, {"first": "\u2603", "second": "\u2603"}))


def test_several_labels(tmp_path):
    labels = ("sad", "long", "dull")
    _, predict, weights = ready(tmp_path, make_job(task="multi-label", labels=labels))
    for threshold in (0.5, 0.1):
        predictor = predict.Predictor(weights, threshold=threshold)
        for found in predictor.predict(some_texts(20)):
            above = [k for k, p in found.probabilities.items() if p > threshold]
            assert list(found.labels) == above
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "a film"}])
    code, (row,) = run(
        predict,
        tmp_path,
        *("--input", tmp_path / "rows.jsonl", "--weights", weights),
        *("--threshold", "0"),
    )
    assert code == 0 and row["labels"] == list(labels)


def test_values(tmp_path):
    _, predict, weights = ready(tmp_path, make_job(task="regression", label=("x", "y")))
    predictor = predict.Predictor(weights)
    (found,) = predictor.predict(["a film"])
    ids = torch.tensor([predict.encode(["a film"]).ids.tolist()])
    expected = predictor.model(ids)[0].tolist()
    assert found.values == pytest.approx({"x": expected[0], "y": expected[1]})


def test_the_form_for_cuda_with_bf16_runs_on_a_cpu(tmp_path):
    job = make_job(device="cuda", precision="bf16")
    _, predict, weights = ready(tmp_path, job)
    predictor = predict.Predictor(weights, device="cpu")
    assert next(predictor.model.parameters()).dtype == torch.float32
    plain = predictor.model(predict.encode(["a film"]).ids[None].long()).softmax(1)
    seen = []
    predictor.model.register_forward_hook(
        lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled())
    )
    (found,) = predictor.predict(["a film"])
    assert found.probabilities["yes"] == pytest.approx(plain[0, 1].item(), abs=0.02)
    # Plans of cuDNN's would be made for every length of rows; others keep the setting.
    assert seen and not any(seen) and torch.backends.cuda.cudnn_sdp_enabled()


# Weights


def test_weights_that_do_not_fit(tmp_path):
    _, predict, weights = ready(tmp_path)
    model = predict.load_trained(weights)
    assert not model.training and all(p.requires_grad for p in model.parameters())
    assert not any(p.is_meta for p in model.parameters())
    with pytest.raises(FileNotFoundError, match="train first"):
        predict.load_trained(tmp_path / "none.safetensors")
    state = model.state_dict()
    for changed in (
        {**state, "more": torch.zeros(1)},
        {k: v for k, v in state.items() if k != "label.bias"},
        {**state, "label.bias": torch.zeros(3)},
    ):
        save_file(changed, tmp_path / "bad.safetensors")
        with pytest.raises(ValueError, match="does not hold this model"):
            predict.load_trained(tmp_path / "bad.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="does not hold this model"):
        predict.load_trained(weights)


# The command


def test_rows_of_json_lines(tmp_path, capsys):
    _, predict, weights = ready(tmp_path, make_job(train={"batch": 64}))
    texts = some_texts(3000)
    lines = [json.dumps({"text": t, "id": i}) for i, t in enumerate(texts)]
    lines[10:10] = ["", "{", '{"text": 5}', '{"text": ""}', "[]", '{"txt": "a"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))  # the last has no end
    arguments = ("--input", tmp_path / "rows.jsonl", "--weights", weights)
    code, found = run(predict, tmp_path, *arguments)
    assert code == 1
    assert [row["line"] for row in found] == [*range(1, 11), *range(12, 3007)]
    assert [row["error"] for row in found if "error" in row] == [
        "not valid JSON",
        '"text" is empty or not a text',
        '"text" is empty or not a text',
        "not a JSON object",
        '"text" is empty or not a text',
    ]
    good = [row for row in found if "error" not in row]
    expected = predict.Predictor(weights).predict(texts)
    for row, one in zip(good, expected, strict=True):
        assert row["label"] == one.label
        assert row["probabilities"] == pytest.approx(one.probabilities, abs=1e-6)
    assert "5 rows have an error" in capsys.readouterr().err
    assert run(predict, tmp_path, *arguments)[1] == found  # to the last digit
    (tmp_path / "rows.jsonl").write_text('{"text": "a film"}\n')
    assert run(predict, tmp_path, *arguments)[0] == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_of_csv(tmp_path, form):
    files = (f"train.{form}", None, None)
    _, predict, weights = ready(tmp_path, make_job(files=files, train={"batch": 64}))
    texts = some_texts(1500)
    rows = [("id", "text"), *enumerate(texts[:1200]), ("x",), *enumerate(texts[1200:])]
    write_csv(tmp_path / "rows.csv", rows)
    arguments = ("--input", tmp_path / "rows.csv", "--weights", weights)
    code, found = run(predict, tmp_path, *arguments)
    assert code == 1 and len(found) == 1501
    assert found[1200]["error"] == "1 fields where the header has 2"
    write_csv(tmp_path / "rows.csv", [("id", "txt"), (1, "a film")])
    assert run(predict, tmp_path, *arguments) == (2, [])


def test_rows_of_parquet(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts = some_texts(30)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": range(31), "text": [*texts, None]}), path)
    job = make_job(files=("train.parquet", None, None))
    _, predict, weights = ready(tmp_path, job)
    code, found = run(predict, tmp_path, "--input", path, "--weights", weights)
    assert code == 1 and [row["line"] for row in found] == list(range(1, 32))
    assert found[30]["error"] == '"text" is empty or not a text'
    expected = predict.Predictor(weights).predict(texts)
    assert [row["label"] for row in found[:30]] == [p.label for p in expected]

    _, predict, weights = ready(tmp_path)  # has no reader of it
    for name in ("rows.parquet", "rows.tsv"):
        (tmp_path / name).touch()
        given = ("--input", tmp_path / name, "--weights", weights)
        assert run(predict, tmp_path, *given) == (2, [])
        assert "rows are JSON lines or CSV, not" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_rows_that_cannot_be_read_cost_no_older_output(tmp_path, name):
    _, predict, weights = ready(tmp_path)
    write_csv(tmp_path / name, [("id", "txt"), (1, "a film")])
    old = tmp_path / "old.jsonl"
    old.write_text("answers")
    given = ("--input", tmp_path / name, "--weights", weights, "--output", old)
    assert predict.main([*map(str, given)]) == 2
    assert old.read_text() == "answers"


def test_lines_longer_than_a_read(tmp_path):
    _, predict, _ = ready(tmp_path)
    texts = ["film " * 120_000, "a film", "plot " * 60_000, "", "of year"]
    lines = [json.dumps({"text": t}) for t in texts]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    records = [
        r for chunk in predict.chunks(str(tmp_path / "rows.jsonl")) for r in chunk
    ]
    assert [(r.line, r.fields["text"]) for r in records] == list(enumerate(texts, 1))


def test_wrong_use(tmp_path, capsys):
    _, predict, weights = ready(tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a film"}\n')
    given = ("--input", str(rows), "--weights", str(weights))
    for arguments, message in (
        (("--input", str(tmp_path / "none.jsonl")), "no file"),
        ((*given, "--output", str(rows)), "would overwrite"),
        ((*given, "--batch", "0"), "must be 1 or more"),
    ):
        with pytest.raises(SystemExit) as caught:
            predict.main(arguments)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    assert rows.read_text() == '{"text": "a film"}\n'
    out = tmp_path / "kept.jsonl"
    out.write_text("kept")
    lost = ("--input", str(rows), "--root", str(tmp_path), "--output", str(out))
    assert predict.main(lost) == 2
    assert "no weights at" in capsys.readouterr().err
    assert out.read_text() == "kept"


@pytest.fixture
def command(tmp_path):
    job = make_job()
    ready(tmp_path, job)
    root = tmp_path / "root"
    trained = root / f"runs/{job.name}"
    trained.mkdir(parents=True)
    (tmp_path / f"{job.name}.safetensors").rename(trained / "model.safetensors")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"{job.name}.predict",
                "--root",
                str(root),
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    return start


def test_a_row_in_a_pipe_does_not_wait_for_the_next(command):
    with command() as process:
        for line, text in enumerate(("a film", "", "the worst plot"), 1):
            process.stdin.write(json.dumps({"text": text}).encode() + b"\n")
            process.stdin.flush()
            row = json.loads(process.stdout.readline())
            assert row["line"] == line and ("error" in row) == (not text)
        process.stdin.write(b'{"text": "of')  # and a row comes in pieces
        process.stdin.flush()
        process.stdin.write(b' year"}')
        process.stdin.close()
        assert json.loads(process.stdout.readline())["line"] == 4
        assert process.wait(timeout=600) == 1


def test_a_reader_that_stops_early(command):
    with command() as process:
        row = b'{"text": "a fine film"}\n'
        process.stdin.write(row)
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(row)
        process.stdin.close()
        assert process.wait(timeout=600) == 141
        assert process.stderr.read() == b""


def test_it_starts_with_little_loaded(tmp_path):
    job = make_job()
    _, _, weights = ready(tmp_path, job)
    code = (
        f"import sys; from {job.name}.predict import Predictor\n"
        f"Predictor({str(weights)!r}).predict(['a film'])\n"
        "print([m for m in sys.modules if '.' not in m], 'torch._dynamo' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    assert shown.strip().endswith("False"), "making the model loaded the compiler"
    for name in ("transformers", "pyarrow", "PIL", "sympy", "generator"):
        assert f"'{name}'" not in shown
