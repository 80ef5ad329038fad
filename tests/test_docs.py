# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every public name has an example and a place on the site; all examples run, in docstrings and on pages."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.poutine import Trace
from torch import nn

import guides
import ppl_disent
from ppl_disent.run import BUILDERS
from tests import test_contract
from tests.cases import Case

DOCS = Path(__file__).parent.parent / "docs"


def load_file(name: str) -> ModuleType:
    """A module of the site's folder, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, DOCS / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


names = load_file("public_names.py")
FILES = "reads published files, which are not here"
WITHOUT = {
    "ppl_disent.data.cars3d": FILES,
    "ppl_disent.data.celeba": FILES,
    "ppl_disent.data.chairs3d": FILES,
    "ppl_disent.data.fashion_mnist": FILES,
    "ppl_disent.data.mnist": FILES,
    "ppl_disent.data.shapes3d": FILES,
    "ppl_disent.data.smallnorb": FILES,
    "ppl_disent.data.svhn": FILES,
    "ppl_disent.data.tfd": FILES,
    "ppl_disent.metrics.AttributeClassifier": "is made by attribute_classifier, whose example uses it",
}


# Examples that need an extra.
EXTRAS = {
    "ppl_disent.posterior.Posterior.explore": "ipywidgets",
    "ppl_disent.tracking.TensorBoard": "tensorboard",
}


class Finder(doctest.DocTestFinder):
    """Also finds functions that a decorator of another module has wrapped, such as builders."""

    def _from_module(self, module, object):
        return getattr(object, "__module__", None) == module.__name__ or super()._from_module(module, object)


def examples() -> list[doctest.DocTest]:
    """Every docstring with an example; it is run as after ``from ppl_disent import *`` and the imports below."""
    known = {k: v for k, v in vars(ppl_disent).items() if not k.startswith("_")}
    known |= {"ppl_disent": ppl_disent, "torch": torch, "nn": nn, "pyro": pyro, "dist": dist, "__name__": "__main__"}
    found = [
        info.name
        for package in (guides, ppl_disent)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    modules = [importlib.import_module(name) for name in ("guides", "ppl_disent", *found)]
    finder = Finder(exclude_empty=True)
    return [test for module in modules for test in finder.find(module, globs=known) if test.examples]


@pytest.fixture
def registry():
    """Builders that an example registers are forgotten."""
    known = dict(BUILDERS)
    yield
    BUILDERS.clear()
    BUILDERS.update(known)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example(example: doctest.DocTest, registry, tmp_path, monkeypatch):
    if example.name in EXTRAS:
        pytest.importorskip(EXTRAS[example.name])
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    told: list[str] = []
    with pyro.get_param_store().scope(), torch.random.fork_rng():
        torch.manual_seed(0)
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert not result.failed, "".join(told)
    assert torch.get_default_dtype() == torch.float32
    assert "+SKIP" not in example.docstring, "an example that does not run"


@pytest.mark.parametrize("room", names.ROOMS)
def test_every_public_name_has_an_example(room: str):
    found = names.public(room)
    assert found
    without = [name for name, item in found.items() if ">>> " not in (inspect.getdoc(item) or "")]
    assert {f"{room}.{name}" for name in without} == {name for name in WITHOUT if name.rpartition(".")[0] == room}


def test_every_public_name_is_on_one_page():
    pages = {page.stem: re.findall(r"^```{public} (.*)$", page.read_text(), re.M) for page in DOCS.glob("api/*.md")}
    shown = Counter(path for lists in pages.values() for modules in lists for path in names.defined_in(modules.split()))
    assert shown == Counter([*names.defined_in(["ppl_disent", "guides"])]), "give its module a place in docs/api"


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_shortest_example_runs(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    (code,) = python_of("index.md")
    assert "steps=3000" in code
    exec(code.replace("steps=3000", "steps=3, progress=False, device='cpu'"), {})
    assert "set_point.z" in capsys.readouterr().out
    assert (tmp_path / "traversal.png").is_file()


@pytest.fixture
def mmd(registry, monkeypatch):
    """The method of the page `How to add a method`, as public as if it were in the library."""
    module = load_file("examples/mmd_vae.py")
    monkeypatch.setattr(ppl_disent, "mmd_vae", module.mmd_vae, raising=False)
    return module


CONTRACT = [check for name, check in vars(test_contract).items() if name.startswith("test_")]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_the_added_method_keeps_the_contract(check, mmd, tmp_path):
    line = next(code for code in python_of("add_a_method.md") if code.startswith("Case("))
    (case,) = eval(line, {"Case": Case})
    options = {"tmp_path": tmp_path, "stop": 5}
    check(case, **{name: options[name] for name in inspect.signature(check).parameters if name in options})


def test_the_added_method_trains_as_its_page_says(mmd, tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    code = next(code for code in python_of("add_a_method.md") if "mmd_vae(" in code)
    assert "steps=2000" in code
    exec(code.replace("steps=2000", "steps=3, progress=False, device='cpu'"), {"mmd_vae": mmd.mmd_vae})
    assert "extra.mmd" in capsys.readouterr().out
    assert (tmp_path / "traversal.png").is_file()


def test_the_added_term_is_the_discrepancy_of_two_gaussians(mmd):
    # N(m, I) and N(0, I), a Gaussian kernel of variance s: 2 (s / (s + 2))^(d / 2) (1 - exp(-|m|^2 / (2 (s + 2)))).
    n, mean = 2000, torch.tensor([1.0, -0.5, 0.3])
    s = len(mean) ** 2 / 2
    expected = 2 * (s / (s + 2)) ** 1.5 * (1 - torch.exp(-mean.square().sum() / (2 * (s + 2))))
    site = {"type": "sample", "fn": dist.Normal(torch.zeros(n, 3), 1).to_event(1), "value": mean + torch.randn(n, 3)}
    trace = Trace()
    trace.add_node("z", **site)
    found = mmd.MMD()(ppl_disent.Step(0, (), {}, {}, guide_trace=trace, model_trace=trace))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    for package in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(package)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "index.html").is_file()
    with open(tmp_path / "objects.inv", "rb") as file:
        from sphinx.util.inventory import InventoryFile

        known = InventoryFile.loads(file.read(), uri="").data
    listed = {name for kind in known.values() for name in kind}
    assert not set(names.defined_in(["ppl_disent", "guides"])) - listed
