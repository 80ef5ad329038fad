# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A run as one HTML file that needs nothing else: no server, no network."""

from experiments.report.command import main as main
