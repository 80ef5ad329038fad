# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a researcher runs."""
