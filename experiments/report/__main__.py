# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m experiments.report``."""

from experiments.report.command import main

main()
