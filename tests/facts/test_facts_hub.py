"""The hub's own client against a fake hub on this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from facts_hub import COMMIT, FakeHub
from facts_samples import TENSORS, safetensors, shard

from generator.errors import Diagnostic, GenError
from generator.runtime.checkpoint import (
    Checkpoint,
    LocalCheckpoint,
    resolve,
)
from generator.runtime.gather import facts_match, gather
from generator.runtime.weights import (
    read_tensors,
    weights_path,
)

SOURCE = "hf:acme/tiny@main"


def opened(
    hub: FakeHub, tmp_path: Path, source: str = SOURCE, *, network: bool = True
) -> Checkpoint:
    return resolve(
        source,
        tmp_path,
        allow_network=network,
        endpoint=hub.address,
        cache=tmp_path / "cache",
    )


def error(call: Callable[[], object]) -> Diagnostic:
    with pytest.raises(GenError) as caught:
        call()
    (found,) = caught.value.diagnostics
    assert found.help
    return found


def weights_requests(hub: FakeHub) -> list[tuple[str, str, str | None]]:
    return [r for r in hub.requests if r[1].endswith(".safetensors")]


def test_facts_without_the_weights(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    # Large enough that fetching it all would show.
    big = TENSORS | {"embeddings.word.weight": ("F32", (1000, 1000))}
    (checkpoint / "model.safetensors").write_bytes(safetensors(big))
    facts = gather(opened(hub, tmp_path))
    assert hub.sent < 150_000
    assert all(r[2] is not None for r in weights_requests(hub))
    here = gather(LocalCheckpoint(SOURCE, checkpoint, COMMIT))
    assert facts.card.licence == "mit"  # as the hub's listing says
    assert facts.card.verified
    assert facts.card.revision == COMMIT
    assert facts.card.tensors == here.card.tensors
    assert facts.card.files == here.card.files
    assert facts.card.config == here.card.config
    assert facts.tokenizer == here.tokenizer


def test_shards(hub: FakeHub, checkpoint: Path, tmp_path: Path) -> None:
    shard(checkpoint)
    found = read_tensors(opened(hub, tmp_path))
    assert {t.key: (t.dtype, t.shape) for t in found} == TENSORS
    folder = weights_path(opened(hub, tmp_path))
    assert (folder / "model.safetensors.index.json").is_file()
    assert read_tensors(LocalCheckpoint("x", folder)) == found


def test_a_header_longer_than_the_first_range(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    many = {f"layer.{i}.some.rather.long.name": ("F32", (1,)) for i in range(3000)}
    (checkpoint / "model.safetensors").write_bytes(safetensors(many))
    assert len(read_tensors(opened(hub, tmp_path))) == 3000


def test_a_server_that_ignores_ranges(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    many = {f"layer.{i}.some.rather.long.name": ("F32", (1,)) for i in range(3000)}
    (checkpoint / "model.safetensors").write_bytes(safetensors(many))
    hub.ignores_ranges = True
    assert len(read_tensors(opened(hub, tmp_path))) == 3000


def test_a_malformed_header(hub: FakeHub, checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2])
    found = error(lambda: read_tensors(opened(hub, tmp_path)))
    assert (found.code, "hf:acme/tiny/model.safetensors" in found.message) == (
        "G133",
        True,
    )


def test_pickles_are_not_fetched(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    found = error(lambda: gather(opened(hub, tmp_path)))
    assert found.code == "G120"
    assert not any("pytorch_model" in path for _, path, _ in hub.requests)


def test_weights_to_run(hub: FakeHub, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(b"never fetched")
    (checkpoint / "big.onnx").write_bytes(b"never fetched")
    remote = opened(hub, tmp_path)
    facts = gather(remote)
    path = weights_path(remote)
    assert path.read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert not any(".bin" in p or ".onnx" in p for _, p, _ in hub.requests)
    assert facts_match(facts, remote.fetched()) == []
    assert remote.fetched().revision == COMMIT


def test_weights_damaged_on_the_way(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    remote = opened(hub, tmp_path)
    facts = gather(remote)
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (found,) = facts_match(facts, remote.fetched())
    assert found.code == "G151"


@pytest.mark.parametrize("revision", ["main", "v1", COMMIT])
def test_revisions(hub: FakeHub, tmp_path: Path, revision: str) -> None:
    found = opened(hub, tmp_path, f"hf:acme/tiny@{revision}")
    assert found.revision == COMMIT
    assert found.source == f"hf:acme/tiny@{revision}"
    gather(found)
    resolved = [p for _, p, _ in hub.requests if "/resolve/" in p]
    assert all(f"/resolve/{COMMIT}/" in p for p in resolved)


@pytest.mark.parametrize(
    "source",
    [
        "hf:",
        "hf:tiny",
        "hf:acme/tiny",
        "hf:acme/tiny@",
        "hf:@main",
        "hf:acme/tiny/x@main",
        "hf:acme/ti ny@main",
        "hf:acme/../x@main",
        "hf:acme/tiny@../x",
        "hf:acme/tiny@main\n",
        "hf:http://x/y@main",
    ],
)
def test_malformed_sources(source: str, tmp_path: Path) -> None:
    assert error(lambda: resolve(source, tmp_path)).code == "G100"


def test_no_such_model(hub: FakeHub, tmp_path: Path) -> None:
    found = error(lambda: opened(hub, tmp_path, "hf:acme/none@main"))
    assert (found.code, "hf auth login" in found.help) == ("G104", True)


def test_no_such_revision(hub: FakeHub, tmp_path: Path) -> None:
    found = error(lambda: opened(hub, tmp_path, "hf:acme/tiny@v9"))
    assert (found.code, "not that revision" in found.message) == ("G105", True)


def test_gated(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated.add("acme/tiny")
    found = error(lambda: gather(opened(hub, tmp_path)))
    assert (found.code, "accept its terms" in found.help) == ("G104", True)


@pytest.mark.parametrize(
    ("status", "code"), [(500, "G106"), (429, "G106"), (418, "G107")]
)
def test_other_answers(hub: FakeHub, tmp_path: Path, status: int, code: str) -> None:
    hub.status = status
    found = error(lambda: opened(hub, tmp_path))
    assert (found.code, str(status) in found.message) == (code, True)


def test_without_network_from_the_cache(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    remote = opened(hub, tmp_path)
    facts = gather(remote)
    weights_path(remote)
    hub.stop()
    for network in (True, False):
        cached = opened(hub, tmp_path, network=network)
        assert isinstance(cached, LocalCheckpoint)
        assert cached.revision == COMMIT
        assert facts_match(facts, cached) == []
        data = weights_path(cached).read_bytes()
        assert hashlib.sha256(data).hexdigest() in {f.sha256 for f in facts.card.files}


def test_a_branch_that_moves(hub: FakeHub, tmp_path: Path) -> None:
    remote = opened(hub, tmp_path)
    facts = gather(remote)
    hub.commit = "f" * 40
    # Facts hold a branch at their commit; weights come from there.
    kept = resolve(
        SOURCE,
        tmp_path,
        commit=facts.card.revision,
        endpoint=hub.address,
        cache=tmp_path / "cache",
    )
    assert kept.revision == COMMIT
    assert facts_match(facts, kept.fetched()) == []
    # What was opened before the branch moved still fetches the commit that it opened.
    assert remote.fetched().folder.name == COMMIT
    moved = opened(hub, tmp_path)
    assert moved.revision == "f" * 40
    (found,) = facts_match(facts, moved)
    assert (found.code, "f" * 40 in found.message) == ("G151", True)


def test_a_commit_in_the_spec_goes_before_that_of_the_facts(
    hub: FakeHub, tmp_path: Path
) -> None:
    source = f"hf:acme/tiny@{COMMIT}"
    found = resolve(source, tmp_path, commit="e" * 40, endpoint=hub.address)
    assert found.revision == COMMIT


def test_without_network_and_without_weights(hub: FakeHub, tmp_path: Path) -> None:
    gather(opened(hub, tmp_path))  # fetches only what facts need
    hub.stop()
    for network in (True, False):
        found = error(lambda network=network: opened(hub, tmp_path, network=network))
        assert found.code == "G106"
        assert "hf download acme/tiny --revision main" in found.help
        assert "gen facts" in found.help


def test_nothing_cached(hub: FakeHub, tmp_path: Path) -> None:
    found = error(lambda: opened(hub, tmp_path, network=False))
    assert (found.code, "not in the cache" in found.message) == ("G106", True)
    assert hub.requests == []


OFFLINE = """
from pathlib import Path
from generator.errors import GenError
from generator.runtime.gather import gather_facts
try:
    print("revision", gather_facts("hf:acme/tiny@main", Path()).card.revision)
except GenError as error:
    found = error.diagnostics[0]
    print(found.code, found.message, "|", found.help)
"""


def test_settings_of_the_client(hub: FakeHub, python: Callable[..., str]) -> None:
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE hold, as for every user of the hub."""
    assert python(OFFLINE, HF_ENDPOINT=hub.address) == f"revision {COMMIT}\n"
    seen = len(hub.requests)
    said = python(OFFLINE, HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="1")
    assert said.startswith("G106")
    assert "HF_HUB_OFFLINE" in said
    assert len(hub.requests) == seen
    fetch = (
        "from pathlib import Path\n"
        "from generator.runtime.checkpoint import resolve\n"
        "from generator.runtime.weights import weights_path\n"
        "weights_path(resolve('hf:acme/tiny@main', Path()))"
    )
    python(fetch, HF_ENDPOINT=hub.address)
    said = python(OFFLINE, HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="1")
    assert said == f"revision {COMMIT}\n"


def test_no_torch_for_a_hub(hub: FakeHub, python: Callable[..., str]) -> None:
    code = (
        OFFLINE
        + "import sys; print(*[m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert python(code, HF_ENDPOINT=hub.address) == f"revision {COMMIT}\n\n"


def test_without_the_client(python: Callable[..., str]) -> None:
    code = "import sys; sys.modules['huggingface_hub'] = None\n" + OFFLINE
    said = python(code)
    assert said.startswith("G107")
    assert "pip install huggingface_hub" in said


def test_a_conversion_fetches_what_it_needs(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from facts_samples import WORDS

    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    facts = gather(opened(hub, tmp_path), convert_tokenizer=True)
    assert facts.tokenizer is not None
    assert facts.card.verified
    shutil.rmtree(tmp_path / "cache")
