# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The documentation's site: ``sphinx-build -W --keep-going -b html docs docs/_build``.

Needs no network. Notebooks are shown without being run; ``NOTEBOOKS=cache`` runs them and keeps what came out.
"""

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "experiments" / "notebooks"
# The packages of this tree, also where another one is installed.
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])

project = "ppl-disent"
author = "ppl-disent contributors"
copyright = "ppl-disent contributors"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "mathml",
    "public_names",
]
exclude_patterns = ["_build", "examples", "jupyter_execute"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get("NOTEBOOKS", "off")
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Pitfalls"]
python_maximum_signature_line_length = 110
python_use_unqualified_type_names = True

# A name of ours must exist; to look up those of others would need the network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!(ppl_disent|guides)\.).*")]

html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "ppl-disent"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False


def setup(app):
    """Copies the notebooks to where Sphinx finds them."""
    target = HERE / "_notebooks"
    shutil.rmtree(target, ignore_errors=True)
    if NOTEBOOKS.is_dir():
        shutil.copytree(NOTEBOOKS, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
