# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Imports point one way, importing has no side effect, files stay small."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each room may import the rooms of lower levels only; `data`, `metrics` and `plots` hang free (see FREE).
LEVELS = {
    "guides": 0,
    "ppl_disent.errors": 0,
    "ppl_disent.nn": 1,
    "ppl_disent.manifold": 1,
    "ppl_disent.optim": 1,
    "ppl_disent.likelihood": 1,
    "ppl_disent.precision": 1,
    "ppl_disent.batches": 1,
    "ppl_disent.checkpoint": 1,
    "ppl_disent.sites": 1,
    "ppl_disent.divergence": 1,
    "ppl_disent.elbo": 2,
    "ppl_disent.opponent": 3,
    "ppl_disent.adversary": 4,
    "ppl_disent.total_correlation": 4,
    "ppl_disent.control": 3,
    "ppl_disent.svi": 3,
    "ppl_disent.history": 4,
    "ppl_disent.pair": 4,
    "ppl_disent.evidence": 5,
    "ppl_disent.draws": 5,
    "ppl_disent.refine": 5,
    "ppl_disent.diagnosis": 6,
    "ppl_disent.calibration": 6,
    "ppl_disent.export": 6,
    "ppl_disent.nuts": 6,
    "ppl_disent.explore": 6,
    "ppl_disent.posterior": 7,
    "ppl_disent.transfer": 8,
    "ppl_disent.run": 8,
    "ppl_disent.validate": 4,
    "ppl_disent.fit": 9,
    "ppl_disent.tracking": 9,
    "ppl_disent.method": 10,
    "ppl_disent.methods": 11,
    "ppl_disent": 12,
    "experiments": 13,
    "benchmarks": 13,
}
# Rooms that may import only what is named here.
FREE = {
    "ppl_disent.data": {"ppl_disent.errors"},
    "ppl_disent.metrics": {"ppl_disent.errors"},
    "ppl_disent.plots": {
        "ppl_disent.errors",
        "ppl_disent.divergence",
        "ppl_disent.posterior",
        "ppl_disent.run",
        "ppl_disent.transfer",
    },
}
# Rooms below ppl_disent that may ask a free one, which does not import them: a finding draws itself when asked to.
ASKS = {
    "ppl_disent.diagnosis": {"ppl_disent.metrics", "ppl_disent.plots"},
    "ppl_disent.calibration": {"ppl_disent.plots"},
}
# `A file over 300 lines must be argued for`: name it here with the reason.
LONG: dict[str, str] = {
    "ppl_disent/posterior.py": "every question to a posterior: mostly docstrings, the work is done elsewhere",
}
FILES = sorted(p for d in ("guides", "ppl_disent", "experiments", "benchmarks") for p in (ROOT / d).rglob("*.py"))


def room(module: str) -> str:
    """The longest room name that a module lies in."""
    rooms = [r for r in (*LEVELS, *FREE) if module == r or module.startswith(r + ".")]
    return max(rooms, key=len, default="")


def imports(path: Path) -> list[str]:
    """Modules of ours that a file imports when it is imported (not those for type checkers)."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{a.name}" for a in node.names]
    return [n for n in names if room(n)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path):
    relative = path.relative_to(ROOT).with_suffix("")
    here = room(".".join(relative.parts))
    assert here, f"{relative} is in no room: give it a place in LEVELS or FREE"
    for name in imports(path):
        there = room(name)
        if here == there:
            continue
        if here in FREE:
            assert there in FREE[here], f"{relative} imports {name}"
        elif there in FREE:
            assert there in ASKS.get(here, ()) or LEVELS[here] >= LEVELS["ppl_disent"], f"{relative} imports {name}"
        else:
            assert LEVELS[there] < LEVELS[here], f"{relative} imports {name}"
            assert there != "guides" or LEVELS[here] >= LEVELS["ppl_disent.methods"], f"{relative} imports {name}"


def test_guides_know_nothing_of_ours():
    for path in (ROOT / "guides").rglob("*.py"):
        assert all(room(name) == "guides" for name in imports(path)), path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small(path: Path):
    # The example of a docstring is a test, which makes no file harder to read.
    text = re.sub(r'\n\n *Example:\n(?s:.*?)(?=\n *""")', "", path.read_text())
    lines = len(text.splitlines())
    assert lines <= 300 or str(path.relative_to(ROOT)) in LONG, f"{lines} lines"


def test_importing_has_no_side_effect():
    code = """
import pyro, torch
def flags():
    numbers = torch.get_default_dtype(), torch.initial_seed(), torch.get_num_threads()
    return numbers, pyro.infer.util.is_validation_enabled()
before = flags()
import ppl_disent, guides, ppl_disent.plots
assert flags() == before
assert not dict(pyro.get_param_store())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
