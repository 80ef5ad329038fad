# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Side-by-side timings; run one with ``python -m benchmarks.NAME``."""
