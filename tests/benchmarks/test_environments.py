import sys
from typing import get_args

import pytest

from memzoo.benchmarks.cases import Peer
from memzoo.benchmarks.environments import (
    REQUIREMENTS,
    PeerMissingError,
    _digest,
    is_ready,
    prepare,
    require,
)

PEERS = get_args(Peer)


def pins(peer):
    lines = (REQUIREMENTS / f"{peer}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("peer", PEERS)
def test_every_requirement_is_an_exact_pin_without_an_address(peer):
    text = (REQUIREMENTS / f"{peer}.txt").read_text()
    assert "://" not in text and "--" not in text
    # A local version or a range would not resolve to one CPU build everywhere.
    assert pins(peer).get("torch", "2.13.0") == "2.13.0"


def test_fla_and_transformers_do_not_live_together():
    assert "transformers" not in pins("fla")
    assert not {"fla-core", "flash-linear-attention"} & set(pins("transformers"))
    # fla's plain functions are in modules that import triton.
    assert "triton" in pins("fla")


def test_a_missing_peer_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(PeerMissingError, match="fla, torch under"):
        require(tmp_path, ["fla", "torch"])
    assert PeerMissingError.exit_code == 2


def test_an_environment_made_from_older_pins_is_not_ready(tmp_path):
    stamp = tmp_path / "torch" / "made-from"
    stamp.parent.mkdir()
    stamp.write_text("older")
    assert not is_ready(tmp_path, "torch")
    stamp.write_text(_digest("torch"))
    assert is_ready(tmp_path, "torch")
    require(tmp_path, ["torch"])
    said = []
    prepare(tmp_path, ["torch"], sys.executable, said.append)
    assert said == ["torch: ready"]


def test_an_interpreter_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PeerMissingError, match="cannot run /no/such/python"):
        prepare(tmp_path, ["torch"], "/no/such/python", lambda line: None)


def test_a_failed_installation_names_its_last_line(tmp_path):
    fails = tmp_path / "python"
    fails.write_text("#!/bin/sh\necho first >&2\necho no space left >&2\nexit 1\n")
    fails.chmod(0o755)
    with pytest.raises(PeerMissingError, match=r"of torch .*made: no space left; run"):
        prepare(tmp_path / "peers", ["torch"], str(fails), lambda line: None)


def test_a_peer_for_a_newer_python_is_refused_before_anything_is_made(tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3 11\n")
    old.chmod(0o755)
    with pytest.raises(PeerMissingError, match=r"jla needs Python 3\.12 .*3\.11; give"):
        prepare(tmp_path / "peers", ["jla"], str(old), lambda line: None)
    assert not (tmp_path / "peers").exists()
