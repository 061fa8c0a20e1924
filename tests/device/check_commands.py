"""The commands of docs/gpu.md, on the pretended GPU; run by test_pretended_cuda.py."""

import json
import re
import shlex

import pytest
import torch

from harness.datasets.loader import MINI
from tests.support.paths import ROOT

BLOCK = re.search(r"```\n(.*?)```", (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8"), re.DOTALL)[1]
COMMANDS = [
    line.split("  #")[0].strip() for line in BLOCK.splitlines() if "bench gpu" not in line
]  # that is check_bench.py's


@pytest.fixture
def texts(tmp_path):
    """The passages of the embedded collection as a file of texts."""
    lines = (json.loads(line) for line in (MINI / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[:100])
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": line["text"]}) + "\n" for line in lines))


@pytest.mark.usefixtures("texts", "one_thread")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(command, cli, tmp_path):
    small = ["--set", "in_batch.batch=16"] if "train" in command else []
    answer = cli(*shlex.split(command)[1:], *small)
    assert answer.code == 0, answer.err
    if command == "harness env":
        assert "cuda:0  pretended, compute capability 8.0, 80.0 of 80.0 GiB free, bf16 yes" in answer.out
    for path in tmp_path.rglob("manifest.json"):
        found = json.loads(path.read_text())
        device = found["system"]["options"]["device"] if "system" in found else found.get("device", "cuda")
        assert device == "cuda", path


def test_a_full_gpu_ends_a_run_with_one_line(cli):
    torch.ops.pretended_cuda.set_limit(torch.cuda.memory_allocated() + 1_000_000)
    try:
        answer = cli("run", "-r", "dupmae", "-d", "mini", "--force")
    finally:
        torch.ops.pretended_cuda.set_limit(80 << 30)
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith(
        "error: the GPU has no memory left (0.0 of 0.0 GiB are free). See with"
    )
    assert "Traceback" not in answer.err
