"""Finding a checkpoint and what is in it; refusing what cannot be read safely."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from facts_samples import CONFIG, TENSORS, pack, safetensors, shard

from generator.errors import Diagnostic, GenError, Place
from generator.runtime.checkpoint import (
    LocalCheckpoint,
    licence_of,
    read_config,
    read_mapping,
    resolve,
)
from generator.runtime.files import read_small
from generator.runtime.weights import (
    INDEX,
    find_weights,
    read_tensors,
    weights_path,
)


def error(call: Callable[[], object]) -> Diagnostic:
    """The one diagnostic that a call ends with; it always has a mend."""
    with pytest.raises(GenError) as caught:
        call()
    (found,) = caught.value.diagnostics
    assert found.help
    return found


def local(folder: Path) -> LocalCheckpoint:
    return LocalCheckpoint("models/tiny", folder)


class TestResolve:
    def test_folder(self, checkpoint: Path, tmp_path: Path) -> None:
        for source in ("tiny", "./tiny", str(checkpoint)):
            found = resolve(source, tmp_path)
            assert isinstance(found, LocalCheckpoint)
            assert found.folder.samefile(checkpoint)
            assert found.source == source

    @pytest.mark.parametrize("source", ["", "a\0b"])
    def test_no_path(self, source: str, tmp_path: Path) -> None:
        assert error(lambda: resolve(source, tmp_path)).code == "G100"

    def test_missing(self, tmp_path: Path) -> None:
        place = Place("specs/x.toml", 7, 8, 9)
        found = error(lambda: resolve("models/none/x", tmp_path, place=place))
        assert found.code == "G101"
        assert str(tmp_path) in found.message
        assert found.place == place

    def test_a_name_of_the_hub(self, tmp_path: Path) -> None:
        found = error(lambda: resolve("acme/tiny", tmp_path))
        assert 'say "hf:acme/tiny@main"' in found.help and not found.label
        found = error(lambda: resolve("acme/tiny@v2", tmp_path))
        assert 'say "hf:acme/tiny@v2"' in found.help

    def test_a_folder_beside_it_is_meant_perhaps(self, tmp_path: Path) -> None:
        (tmp_path / "models" / "bert").mkdir(parents=True)
        found = error(lambda: resolve("models/brt", tmp_path))
        assert found.label == 'did you mean "models/bert"?'

    def test_a_name_of_the_hub_without_its_owner(self, tmp_path: Path) -> None:
        found = error(lambda: resolve("bert-base-uncased", tmp_path))
        assert '"hf:owner/bert-base-uncased@main"' in found.help

    def test_a_path_from_the_top_is_under_no_folder(self, tmp_path: Path) -> None:
        found = error(lambda: resolve(str(tmp_path / "none"), Path("/specs")))
        assert "/specs" not in found.message and "hf:" not in found.help

    def test_a_file(self, checkpoint: Path) -> None:
        found = error(lambda: resolve("model.safetensors", checkpoint))
        assert (found.code, '"model.safetensors" is a file') == ("G101", found.message)

    @pytest.fixture
    def package(self, checkpoint: Path, tmp_path: Path, monkeypatch) -> str:
        """An importable package with the checkpoint, whose code says when it runs."""
        inner = tmp_path / "site" / "gt_test_tiny" / "inner"
        inner.mkdir(parents=True)
        checkpoint.rename(inner / "model")
        for folder in (inner, inner.parent):
            (folder / "__init__.py").write_text("raise RuntimeError('was run')\n")
        (inner.parent / "single.py").write_text("raise RuntimeError('was run')\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        return "gt_test_tiny"

    @pytest.mark.parametrize("inner", ["/inner/model", ".inner/model"])
    def test_package_is_never_run(
        self, package: str, inner: str, tmp_path: Path
    ) -> None:
        found = resolve(f"package:{package}{inner}", tmp_path)
        assert len(read_tensors(found)) == len(TENSORS)
        assert package not in sys.modules

    @pytest.mark.parametrize(
        ("rest", "code"),
        [
            ("gt_test_none/model", "G102"),
            ("gt_test_tiny.none/model", "G102"),
            ("gt_test_tiny.single/model", "G102"),
            ("gt_test_tiny/none", "G103"),
            ("gt_test_tiny/inner/__init__.py", "G103"),
            ("gt_test_tiny/../x", "G100"),
            ("gt_test_tiny//etc", "G100"),
            ("gt_test_tiny/a\\b", "G100"),
            ("/etc", "G100"),
            ("", "G100"),
            ("not-a-module/x", "G100"),
            ("a..b/x", "G100"),
        ],
    )
    def test_package_errors(
        self, package: str, rest: str, code: str, tmp_path: Path
    ) -> None:
        found = error(lambda: resolve(f"package:{rest}", tmp_path))
        assert found.code == code
        assert package not in sys.modules

    def test_how_to_install(self, tmp_path: Path) -> None:
        found = error(lambda: resolve("package:gt_test_none/model", tmp_path))
        assert "pip install gt-test-none" in found.help


class TestWeights:
    def test_single(self, checkpoint: Path) -> None:
        found = read_tensors(local(checkpoint))
        assert {t.key: (t.dtype, t.shape) for t in found} == TENSORS
        assert [t.key for t in found] == sorted(TENSORS)
        assert weights_path(local(checkpoint)) == checkpoint / "model.safetensors"

    def test_sharded(self, checkpoint: Path) -> None:
        found = read_tensors(local(shard(checkpoint)))
        assert {t.key: (t.dtype, t.shape) for t in found} == TENSORS
        assert [t.key for t in found] == sorted(TENSORS)
        assert len({t.file for t in found}) == 2
        assert weights_path(local(checkpoint)) == checkpoint

    def test_another_name(self, checkpoint: Path) -> None:
        (checkpoint / "model.safetensors").rename(checkpoint / "best.safetensors")
        assert find_weights(local(checkpoint)).files == ("best.safetensors",)

    def test_single_before_index(self, checkpoint: Path) -> None:
        data = (checkpoint / "model.safetensors").read_bytes()
        shard(checkpoint)
        (checkpoint / "model.safetensors").write_bytes(data)
        assert find_weights(local(checkpoint)).index is None

    def test_links_as_in_a_hub_cache(self, checkpoint: Path, tmp_path: Path) -> None:
        blob = tmp_path / "blob"
        (checkpoint / "model.safetensors").rename(blob)
        (checkpoint / "model.safetensors").symlink_to(Path("..", "blob"))
        assert len(read_tensors(local(checkpoint))) == len(TENSORS)
        blob.unlink()
        found = error(lambda: read_tensors(local(checkpoint)))
        assert found.code == "G113"
        assert "link to a file that is gone" in found.help

    def test_a_link_to_itself(self, checkpoint: Path) -> None:
        path = checkpoint / "model.safetensors"
        path.unlink()
        path.symlink_to(path)
        assert error(lambda: read_tensors(local(checkpoint))).code == "G113"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_not_opened(self, checkpoint: Path) -> None:
        (checkpoint / "model.safetensors").unlink()
        os.mkfifo(checkpoint / "model.safetensors")
        found = error(lambda: read_tensors(local(checkpoint)))
        assert (found.code, "regular" in found.message) == ("G113", True)

    def test_a_sparse_giant_is_read_at_once(self, checkpoint: Path) -> None:
        with (checkpoint / "model.safetensors").open("r+b") as file:
            file.truncate(1 << 40)
        found = error(lambda: read_tensors(local(checkpoint)))
        assert found.code == "G133"

    @pytest.mark.parametrize(
        "names",
        [
            ["pytorch_model.bin"],
            ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
            ["model.pt"],
            ["last.ckpt", "tf_model.h5"],
            ["weights.pkl"],
            ["model.pth"],
        ],
    )
    def test_pickles_are_never_opened(self, checkpoint: Path, names: list[str]) -> None:
        (checkpoint / "model.safetensors").unlink()
        for name in names:
            # Reading a directory would fail with another error.
            (checkpoint / name).symlink_to("/nowhere/at/all")
        found = error(lambda: find_weights(local(checkpoint)))
        assert found.code == "G120"
        assert names[0] in found.message
        assert "weights_only=True" in found.help
        assert "where you trust" in found.help

    def test_the_conversion_works(self, checkpoint: Path, monkeypatch) -> None:
        torch = pytest.importorskip("torch")
        (checkpoint / "model.safetensors").unlink()
        base = torch.arange(6.0).reshape(2, 3)
        torch.save({"w": base.T, "v": base}, checkpoint / "it's.pt")
        script = error(lambda: find_weights(local(checkpoint))).help
        lines = [x[4:] for x in script.splitlines() if x.startswith("    ")]
        monkeypatch.chdir(checkpoint)
        exec("\n".join(lines), {})  # noqa: S102 the text that the user is told to run
        found = read_tensors(local(checkpoint))
        assert [(t.key, t.shape) for t in found] == [("v", (2, 3)), ("w", (3, 2))]

    def test_a_pickle_beside_safetensors_is_no_matter(self, checkpoint: Path) -> None:
        (checkpoint / "pytorch_model.bin").symlink_to("/nowhere/at/all")
        assert find_weights(local(checkpoint)).files == ("model.safetensors",)

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("tf_model.h5", "TensorFlow"),
            ("flax_model.msgpack", "Flax"),
            ("model-q4.gguf", "GGUF"),
            ("model.onnx", "ONNX"),
        ],
    )
    def test_other_formats(self, checkpoint: Path, name: str, what: str) -> None:
        (checkpoint / "model.safetensors").unlink()
        (checkpoint / name).write_bytes(b"x")
        found = error(lambda: find_weights(local(checkpoint)))
        assert found.code == "G121"
        assert f"{name} ({what})" in found.message

    def test_none_at_all(self, checkpoint: Path) -> None:
        (checkpoint / "model.safetensors").unlink()
        assert error(lambda: find_weights(local(checkpoint))).code == "G122"

    def test_an_adapter(self, checkpoint: Path) -> None:
        old = checkpoint / "model.safetensors"
        old.rename(checkpoint / "adapter_model.safetensors")
        found = error(lambda: find_weights(local(checkpoint)))
        assert (found.code, "adapter" in found.message) == ("G122", True)

    def test_several_without_index(self, checkpoint: Path) -> None:
        shard(checkpoint)
        (checkpoint / INDEX).unlink()
        found = error(lambda: find_weights(local(checkpoint)))
        assert (found.code, "2 safetensors files" in found.message) == ("G123", True)

    def test_no_tensors(self, checkpoint: Path) -> None:
        (checkpoint / "model.safetensors").write_bytes(pack({}))
        assert error(lambda: read_tensors(local(checkpoint))).code == "G134"


FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"
KEYS = sorted(TENSORS)
MAP = {KEYS[0]: FIRST, KEYS[1]: FIRST, KEYS[2]: SECOND, KEYS[3]: SECOND}


def index(weight_map: object) -> str:
    return json.dumps({"weight_map": weight_map})


MALFORMED_INDEX: dict[str, tuple[str, str, str]] = {
    "not json": ("{", "G111", INDEX),
    "empty file": ("", "G111", INDEX),
    "a list": ("[]", "G124", "weight_map"),
    "no map": ("{}", "G124", "weight_map"),
    "map a list": (index([]), "G124", "weight_map"),
    "empty map": (index({}), "G124", "weight_map"),
    "file a number": (index(MAP | {KEYS[0]: 1}), "G124", KEYS[0]),
    "file null": (index(MAP | {KEYS[0]: None}), "G124", KEYS[0]),
    "a key twice": (
        '{"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}}',
        "G111",
        "twice",
    ),
    "upwards": (index(MAP | {KEYS[0]: "../x.safetensors"}), "G127", "../x"),
    "absolute": (index(MAP | {KEYS[0]: "/etc/x.safetensors"}), "G127", "/etc"),
    "in a folder": (index(MAP | {KEYS[0]: "a/x.safetensors"}), "G127", "a/x"),
    "backslash": (index(MAP | {KEYS[0]: "..\\x.safetensors"}), "G127", "x.safe"),
    "drive": (index(MAP | {KEYS[0]: "C:x.safetensors"}), "G127", "C:x"),
    "hidden": (index(MAP | {KEYS[0]: ".x.safetensors"}), "G127", ".x"),
    "newline": (index(MAP | {KEYS[0]: "x.safetensors\n"}), "G127", "\\n"),
    "zero byte": (index(MAP | {KEYS[0]: "x\0.safetensors"}), "G127", "\\x00"),
    "a pickle": (index(MAP | {KEYS[0]: "pytorch_model.bin"}), "G127", ".bin"),
    "empty name": (index(MAP | {KEYS[0]: ""}), "G127", "''"),
    "shard not there": (index(MAP | {KEYS[0]: "c.safetensors"}), "G125", "c.safe"),
    "key in no shard": (index(MAP | {"zz": FIRST}), "G126", '"zz"'),
    "key in the other shard": (index(MAP | {KEYS[0]: SECOND}), "G126", KEYS[0]),
    "key not named": (
        index({k: MAP[k] for k in KEYS[:3]}),
        "G126",
        "does not name it",
    ),
}


@pytest.mark.parametrize("name", MALFORMED_INDEX)
def test_malformed_index(name: str, checkpoint: Path) -> None:
    text, code, says = MALFORMED_INDEX[name]
    (shard(checkpoint) / INDEX).write_text(text)
    found = error(lambda: read_tensors(local(checkpoint)))
    assert found.code == code
    assert says in found.message
    assert INDEX in found.message


def test_a_key_in_two_shards(checkpoint: Path) -> None:
    shard(checkpoint)
    both = {k: TENSORS[k] for k in KEYS[1:]}
    (checkpoint / SECOND).write_bytes(safetensors(both))
    found = error(lambda: read_tensors(local(checkpoint)))
    assert found.code == "G126"
    assert KEYS[1] in found.message


def test_a_damaged_shard(checkpoint: Path) -> None:
    shard(checkpoint)
    path = checkpoint / SECOND
    path.write_bytes(path.read_bytes()[:-3])
    found = error(lambda: read_tensors(local(checkpoint)))
    assert (found.code, SECOND in found.message) == ("G133", True)


class TestConfig:
    def test_as_read(self, checkpoint: Path) -> None:
        assert read_config(local(checkpoint)) == CONFIG

    def test_missing(self, checkpoint: Path) -> None:
        (checkpoint / "config.json").unlink()
        assert error(lambda: read_config(local(checkpoint))).code == "G110"

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "G111"),
            ("[]", "G111"),
            ('"bert"', "G111"),
            ('{"model_type": "bert",}', "G111"),
            ('{"model_type": "bert", "model_type": "vit"}', "G111"),
            ('{"model_type": "bert", "eps": NaN}', "G111"),
            ('{"model_type": "bert", "eps": Infinity}', "G111"),
            ('{"model_type": "bert", "x": "\\udc80"}', "G111"),
            ("{}", "G110"),
            ('{"model_type": 1}', "G110"),
        ],
    )
    def test_malformed(self, checkpoint: Path, text: str, code: str) -> None:
        (checkpoint / "config.json").write_text(text)
        found = error(lambda: read_config(local(checkpoint)))
        assert found.code == code
        assert "config.json" in found.message

    @pytest.mark.parametrize(
        "value",
        [
            {"auto_map": {"AutoModel": "modeling_x.X"}},
            {"custom_pipelines": {"x": 1}},
            {"trust_remote_code": True},
        ],
    )
    @pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
    def test_custom_code(self, checkpoint: Path, name: str, value: dict) -> None:
        (checkpoint / name).write_text(json.dumps(CONFIG | value, indent=2))
        found = error(lambda: read_mapping(local(checkpoint), name))
        assert found.code == "G112"
        assert next(iter(value)) in found.message
        assert found.place is not None
        line = (checkpoint / name).read_text().splitlines()[found.place.line - 1]
        assert line[found.place.column - 1 :].startswith(f'"{next(iter(value))}"')

    def test_an_empty_auto_map_is_no_code(self, checkpoint: Path) -> None:
        text = json.dumps(CONFIG | {"auto_map": {}})
        (checkpoint / "config.json").write_text(text)
        assert read_config(local(checkpoint))["auto_map"] == {}

    def test_too_large(self, checkpoint: Path) -> None:
        path = checkpoint / "config.json"
        found = error(lambda: read_small(path, "config.json", 20))
        assert (found.code, "larger than" in found.message) == ("G113", True)


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\nlanguage: en\nlicense: mit\n---\n# X", "mit"),
        ('---\nlicense: "cc-by-4.0"\n---\n', "cc-by-4.0"),
        ("---\nlicense: mit # as before\n---\n", "mit"),
        ("---\nlicense: [bsd-3-clause, mit]\n---\n", "bsd-3-clause"),
        ("---\nlicense:\n- gpl-3.0\n- mit\n---\n", "gpl-3.0"),
        ("\ufeff---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("---\nlicense: a\x1b[31m b\n---\n", None),
        ("---\nlicense:\n---\n", None),
        ("---\nlicense_name: x\n---\nlicense: mit\n", None),
        ("# X\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_licence(readme: str, licence: str | None) -> None:
    assert licence_of(readme) == licence
