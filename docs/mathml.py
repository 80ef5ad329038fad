# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Formulas as MathML, which browsers draw by themselves: a page needs neither a script nor the network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
REWRITTEN = (
    # Commands that docutils does not know; brackets grow by themselves in MathML.
    (r"\\[bB]ig[lrgm]*(?![a-zA-Z])", ""),
    (r"\\dots(?![a-z])", r"\\ldots"),
    # A space that browsers leave out.
    (r"\\(log|ln)(?= )", r"\\\1\\,"),
    # What stands below and above an accent is set over and under the letter, unless it belongs to something else.
    (r"(\\(?:bar|hat|overline|tilde)\{(?:[^{}]|\{[^{}]*\})*\})(?=[_^])", r"\1{}"),
)


def _drawn(translator: Any, node: nodes.Element, block: bool) -> None:
    tex = node.astext()
    for pattern, known in REWRITTEN:
        tex = re.sub(pattern, known, tex)
    try:
        drawn = tex2mathml(tex, as_block=block)
    except MathError as error:
        LOGGER.warning("formula: %s", error, location=node)
        drawn = translator.encode(node.astext())
    translator.body.append(f'<div class="math">{drawn}</div>' if block else drawn)
    raise nodes.SkipNode


def _inline(translator: Any, node: nodes.Element) -> None:
    _drawn(translator, node, block=False)


def _block(translator: Any, node: nodes.Element) -> None:
    _drawn(translator, node, block=True)


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
