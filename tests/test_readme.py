# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The README's Python runs as printed, but for fewer steps."""

import re
from pathlib import Path

import torch

import ppl_disent as pd

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL)


def block(start: str) -> str:
    (found,) = [b for b in BLOCKS if start in b]
    return found


def test_write_a_new_model(capsys):
    torch.set_default_dtype(torch.float32)
    code = block("class Shared").replace("steps=200", "steps=3, progress=False, device='cpu', log_every=1")
    names: dict = {}
    exec(code, names)
    assert names["strip"].shape == (1, 9, 1, 64, 64)
    assert "beta.s" in capsys.readouterr().out


def test_open_a_run_again(tmp_path, capsys):
    torch.set_default_dtype(torch.float32)
    method = pd.dynamic_vae((1, 64, 64), target_kl=5.0)
    options = {"steps": 2, "batch_size": 8, "progress": False, "device": "cpu"}
    method.fit(pd.load("dsprites"), checkpoint=tmp_path / "checkpoint.pt", **options)
    code = (
        block("mig(codes").replace('"runs/dynamic_vae-dsprites-s1"', repr(str(tmp_path))).replace("(1000,)", "(100,)")
    )
    names: dict = {}
    exec(code, names)
    assert names["strip"].shape == (1, 9, 1, 64, 64)
    assert "Score(" in capsys.readouterr().out


def test_change_an_attribute(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    code = block("transfer.place").replace("steps=3000", "steps=3, progress=False, device='cpu'")
    names: dict = {}
    exec(code.replace("copies=8", "copies=1"), names)
    assert names["edits"].shape == (9, 2, 1, 16, 16)
    assert names["bars"].shape == (2, 1, 16, 16)
    assert {file.name for file in tmp_path.iterdir()} == {"transfer.png", "plane.png"}


def test_trust_a_posterior(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    method = pd.dynamic_vae((1, 64, 64), target_kl=5.0, network="burgess")
    options = {"steps": 2, "batch_size": 8, "progress": False, "device": "cpu"}
    method.fit(pd.load("dsprites"), checkpoint=tmp_path / "run" / "checkpoint.pt", **options)
    monkeypatch.chdir(tmp_path)
    code = block("q.diagnose").replace('"runs/dynamic_vae-dsprites-s1"', '"run"').replace("15_000", "100_000")
    names: dict = {}
    exec(code.replace("particles=200", "particles=25").replace("n=200, draws=99", "n=100, draws=19"), names)
    assert names["d"].problems
    assert (tmp_path / "diagnosis.png").stat().st_size > 10_000
    assert names["found"].posterior.sizes["draw"] == 50
    assert "Diagnosis on 8 data" in capsys.readouterr().out
