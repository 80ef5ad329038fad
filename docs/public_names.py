# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What is public, and a directive that documents it by theme, so that a new name appears by itself.

``{public} ppl_disent.posterior ppl_disent.transfer`` on a page stands for a table and the full text of every public
function and class that these modules, and those below them, define.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

# Where public names stand; a name is documented under the first of them that has it.
ROOMS = ["ppl_disent", "guides", *(f"ppl_disent.{room}" for room in ("control", "data", "methods", "metrics", "plots"))]
ROOMS += ["ppl_disent.manifold", "ppl_disent.transfer"]


def public(room: str) -> dict[str, Any]:
    """The public functions and classes of a package, or of a module: what it names, but for what it only uses."""
    module = importlib.import_module(room)
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    home = ("ppl_disent", "guides") if hasattr(module, "__path__") else room
    found = {name: getattr(module, name) for name in names}
    return {k: v for k, v in found.items() if callable(v) and v.__module__.startswith(home)}


def defined_in(modules: Sequence[str]) -> dict[str, Any]:
    """``{path: object}`` of the public functions and classes that come from some modules, in their order, or below."""
    known: dict[str, Any] = {}
    for room in ROOMS:
        known |= {f"{room}.{name}": item for name, item in public(room).items() if item not in known.values()}
    of = {
        module: [p for p, item in known.items() if f"{item.__module__}.".startswith(f"{module}.")] for module in modules
    }
    return {path: known[path] for paths in of.values() for path in paths}


class Public(Directive):
    """``{public} module ...``: a table of the public names of some modules, then all that is said of them."""

    required_arguments = 1
    optional_arguments = 100

    def run(self) -> list[nodes.Node]:
        found = defined_in(self.arguments)
        lines = [".. list-table::", "   :class: names", ""]
        for path, item in found.items():
            about = " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())
            lines += [f"   * - :obj:`{path.removeprefix('ppl_disent.')} <{path}>`", f"     - {about}"]
        for path, item in found.items():
            kind = "class" if inspect.isclass(item) else "function"
            lines += ["", f".. auto{kind}:: {path}", *(["   :members:"] if kind == "class" else [])]
        # Pages are Markdown, docstrings are not.
        node = nodes.Element()
        self.state.nested_parse(StringList(["```{eval-rst}", *lines, "```"], "public"), 0, node)
        return node.children


def inner(app: Any, env: Any, node: nodes.Element, shown: nodes.Node) -> nodes.Node | None:
    """A name that exists and is on no page stands as code; Sphinx warns of one that does not exist."""
    try:
        pkgutil.resolve_name(node["reftarget"])
    except (ImportError, AttributeError, ValueError):
        return None
    return shown


def setup(app: Any) -> dict[str, bool]:
    app.connect("missing-reference", inner)
    app.add_directive("public", Public)
    return {"parallel_read_safe": True}
