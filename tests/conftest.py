# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every test starts from the same state, and must leave the process as it found it."""

import pyro
import pytest
import torch


def pytest_collection_modifyitems(config, items):
    """`slow` tests run only when asked for by -m; `cuda` tests only where there is a GPU."""
    for item in items:
        if "slow" in item.keywords and not config.getoption("-m"):
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def _fresh():
    """float64, a fixed seed, an empty param store; Pyro's and torch's global flags must come out as they went in."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    torch.manual_seed(0)
    flags = (pyro.infer.util.is_validation_enabled(), torch.distributions.Distribution._validate_args)
    yield
    torch.set_default_dtype(dtype)
    after = (pyro.infer.util.is_validation_enabled(), torch.distributions.Distribution._validate_args)
    assert after == flags, "a test changed a global validation flag"
