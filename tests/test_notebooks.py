# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The notebooks: each runs top to bottom, draws its pictures, and shows commands that there are."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.md"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Where a notebook would show the value of a cell's last line, the script draws or prints it. Whether matplotlib can
# take a tensor depends on the versions of torch and NumPy, so here it never can.
SHOW = """
import torch as _torch
from matplotlib.figure import Figure as _Figure

def _refuse(*_):
    raise TypeError("NumPy or matplotlib was handed a tensor")

_torch.Tensor.__array__ = _refuse

def _show(value, name):
    if isinstance(value, _Figure):
        value.savefig(name)
    else:
        print(value)
"""


def notebook(path: Path):
    return pytest.importorskip("jupytext").read(path)


def script(path: Path) -> str:
    """The code of a notebook as one script."""
    parts = [SHOW]
    for i, cell in enumerate(notebook(path).cells):
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
            last = ast.parse("\n".join(lines)).body[-1]
            if isinstance(last, ast.Expr):
                end = lines[last.lineno - 1 :]
                lines[last.lineno - 1 :] = ["_show(", *end, f', "{i:02d}.png")']
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def commands() -> list[str]:
    """What the notebooks say to type into a shell."""
    blocks = re.findall(r"```bash\n(.*?)```", "\n".join(path.read_text() for path in NOTEBOOKS), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return sorted({" ".join(line.split()) for line in lines})


def test_all_are_here():
    assert [path.stem for path in NOTEBOOKS] == [
        "csvae_swiss_roll",
        "dynamic_vae",
        "new_model",
        "posterior",
        "runs",
        "st_rkm",
    ]


@each
def test_is_a_notebook(path: Path):
    read = notebook(path)
    assert read.metadata["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert read.metadata["jupytext"]["text_representation"]["format_name"] == "myst"
    assert read.cells[0].source.startswith("# ")
    kinds = [cell.cell_type for cell in read.cells]
    assert set(kinds) == {"code", "markdown"}
    assert kinds.count("code") == path.read_text().count("```{code-cell} ipython3\n")
    compile(script(path), path.name, "exec")


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command: str):
    import tyro

    python, dash_m, name, *arguments = shlex.split(command)
    assert (python, dash_m) == ("python", "-m")
    module = importlib.import_module(name)
    with pytest.raises(SystemExit, match=r"^0$") if "--help" in arguments else nullcontext():
        if name == "experiments.train":
            methods = {method: module.command(method) for method in module.METHODS}
            tyro.extras.subcommand_cli_from_dict(methods, args=arguments)
        else:
            tyro.cli(module.Options, args=arguments)


@pytest.mark.slow
@each
def test_runs_top_to_bottom(path: Path, tmp_path: Path):
    code = tmp_path / f"{path.stem}.py"
    code.write_text(script(path))
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(code)],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = [file.stat().st_size for file in tmp_path.glob("*.png")]
    assert len(drawn) >= 2
    assert min(drawn) > 5000, "a picture is empty"
