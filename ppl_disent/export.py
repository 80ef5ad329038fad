# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Draws of a pair as ArviZ reads them, in its versions before 1 and since."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from torch import Tensor

from ppl_disent.draws import Groups, collect
from ppl_disent.errors import ArgumentError
from ppl_disent.pair import Pair


def to_arviz(
    pair: Pair,
    batch: tuple[Tensor, ...],
    *,
    draws: int = 100,
    predictive: int | None = None,
    groups: Collection[str] | None = None,
    constants: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
    history: pd.DataFrame | None = None,
    seed: int = 0,
    memory: float = 8e8,
    rows: int = 1000,
) -> Any:
    """As :meth:`ppl_disent.Posterior.to_arviz`."""
    named, batch = dict(dims or {}), pair.on_device(batch)
    n = len(batch[0]) if batch else 0
    given = {}
    for name, value in (constants or {}).items():
        array = value.numpy(force=True).copy() if isinstance(value, Tensor) else np.array(value)
        if array.shape[:1] != (n,):
            raise ArgumentError(f"constants[{name!r}]", got=array.shape, expected=f"({n}, ...), a row for each datum")
        own = [f"{name}_dim"] if array.ndim == 2 else [f"{name}_dim_{i}" for i in range(array.ndim - 1)]
        given[name] = (["datum", *named.pop(name, own)], array)
    options: Any = {"draws": draws, "predictive": predictive, "groups": groups, "memory": memory, "rows": rows}
    with pair.quiet(seed):
        found = collect(pair, batch, dims=named, **options)
    if given:
        found["constant_data"] = found.get("constant_data", {}) | given
    if history is not None:
        found["training"] = {str(k): (["step"], v.to_numpy()) for k, v in history.items()}
        coords = {"step": history.index.to_numpy(), **(coords or {})}
    return as_arviz(found, coords or {})


def as_arviz(groups: Groups, coords: Mapping[str, Any]) -> Any:
    """An ``InferenceData`` for ArviZ before 1, a ``DataTree`` since."""
    sizes: dict[str, int] = {}
    for dims, values in (v for variables in groups.values() for v in variables.values()):
        sizes |= dict(zip(dims, values.shape))
    for dim, given in coords.items():
        if len(given) != sizes.get(dim):
            raise ArgumentError(f"coords[{dim!r}]", got=given, expected=f"labels along one of {sizes}")
    sets = {}
    for group, variables in groups.items():
        try:
            data = xr.Dataset(variables)
            axes = {str(dim): np.arange(k) for dim, k in data.sizes.items()}
            sets[group] = data.assign_coords(axes | {dim: v for dim, v in coords.items() if dim in axes})
        except ValueError as error:  # axes of one name and two lengths
            raise ArgumentError("dims", got=str(error), expected=f"another name for an axis in {group}") from None
    attrs = {"inference_library": "pyro", "inference_library_version": version("pyro-ppl")}
    if int(version("arviz").split(".")[0]) > 0:
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **sets})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\nArviZ is undergoing", FutureWarning)  # once a day, of version 1
        from arviz import InferenceData
    return InferenceData(attrs=attrs, **sets)
