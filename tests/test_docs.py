# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every public name has an example in its docstring, and every example runs."""

import doctest
import importlib
import inspect
import pkgutil

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import guides
import ppl_disent
from ppl_disent.run import BUILDERS

# Where public names stand.
ROOMS = ["ppl_disent", "guides", *(f"ppl_disent.{room}" for room in ("control", "data", "methods", "metrics", "plots"))]
ROOMS += ["ppl_disent.manifold", "ppl_disent.transfer"]
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
}


def public(room: str) -> dict[str, object]:
    """The public functions and classes of a package, or of a module: what it names, but for what it only uses."""
    module = importlib.import_module(room)
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    home = ("ppl_disent", "guides") if hasattr(module, "__path__") else room
    found = {name: getattr(module, name) for name in names}
    return {k: v for k, v in found.items() if callable(v) and v.__module__.startswith(home)}


class Finder(doctest.DocTestFinder):
    """Also finds functions that a decorator of another module has wrapped, such as builders."""

    def _from_module(self, module, object):
        return getattr(object, "__module__", None) == module.__name__ or super()._from_module(module, object)


def examples() -> list[doctest.DocTest]:
    """Every docstring with an example; it is run as after ``from ppl_disent import *`` and the imports below."""
    names = {k: v for k, v in vars(ppl_disent).items() if not k.startswith("_")}
    names |= {"torch": torch, "nn": nn, "pyro": pyro, "dist": dist, "__name__": "__main__"}
    found = [
        info.name
        for package in (guides, ppl_disent)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    modules = [importlib.import_module(name) for name in ("guides", "ppl_disent", *found)]
    finder = Finder(exclude_empty=True)
    return [test for module in modules for test in finder.find(module, globs=names) if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example(example: doctest.DocTest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    known, told = dict(BUILDERS), []
    with pyro.get_param_store().scope(), torch.random.fork_rng():
        torch.manual_seed(0)
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    BUILDERS.clear()
    BUILDERS.update(known)
    assert not result.failed, "".join(told)
    assert torch.get_default_dtype() == torch.float32
    assert "+SKIP" not in example.docstring, "an example that does not run"


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_an_example(room: str):
    found = public(room)
    assert found
    without = [name for name, item in found.items() if ">>> " not in (inspect.getdoc(item) or "")]
    assert {f"{room}.{name}" for name in without} == {name for name in WITHOUT if name.rpartition(".")[0] == room}
