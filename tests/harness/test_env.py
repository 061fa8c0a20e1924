"""`harness env`: what a bug report should say."""

import json

import torch

from harness.version import __version__


def test_versions_devices_and_places(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    answer = cli("env", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["versions"]["dupmae-harness"] == __version__
    assert found["devices"]["torch"] == torch.__version__
    assert found["devices"]["gpu"].startswith("none")
    assert "for the CPU" in found["devices"]["faiss"]
    assert found["variables"]["CUDA_VISIBLE_DEVICES"] == "3"
    assert found["places"]["results"].startswith(str(tmp_path / "results"))
    text = cli("env").out
    assert text.splitlines()[0] == "versions"
    for section in found.values():
        for name, value in section.items():
            assert any(
                line.split(maxsplit=1)[0] in name and str(value)[:20] in line for line in text.splitlines() if line
            )


def test_a_home_that_cannot_be_is_said(cli, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", "/dev/null/home")
    answer = cli("env")
    assert answer.code == 0
    assert "indexes and vectors" in answer.out
