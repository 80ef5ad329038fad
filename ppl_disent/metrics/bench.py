# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A bench for metrics: codes of which it is known what they should score.

Four factors with four values each, every combination equally often, and codes made of the factors' values x_k, which
lie evenly in [-1.35, 1.35] and have variance 1. "A perfect code scores 1 and noise 0" is false for many metrics, so
:func:`analytic` says what each should be, where there is a formula; here beside what :func:`table` measured (``~``)
where there is none.

======================= ========== ========== ========== ========== ========== ==========
metric                  perfect    permuted   rotated    duplicated entangled  noise
======================= ========== ========== ========== ========== ========== ==========
mig                     1.00       1.00       0.00       0.00       0.00       0.00
rmig                    1.00       1.00       0.00       0.00       0.00       0.00
jemmig                  0.00       0.00       0.46       0.23       0.58       ~0.88
dci                     1.00       1.00       0.50       1.00       0.00       ~0.56
dci completeness        1.00       1.00       0.50       ~1.00      0.00       ~0.78
dci nrmse               0.02       0.02       0.03       0.02       0.04       1.00
sap                     1.00       1.00       0.00       0.00       0.00       0.00
modularity              1.00       1.00       0.67       1.00       0.00       ~0.33
explicitness            1.00       1.00       1.00       1.00       1.00       0.50
irs                     1.00       1.00       0.50       1.00       0.25       ~0.27
infom                   1.00       1.00       0.33       1.00       0.00       ~0.06
infoe                   1.00       1.00       1.00       1.00       1.00       0.00
infoc                   1.00       1.00       0.33       0.43       0.00       ~0.07
factor_vae_score        1.00       1.00       0.50       1.00       0.25       0.25
beta_vae_score          1.00       1.00       0.50       1.00       0.25       0.25
total_correlation       0.00       0.00       0.00       inf        0.00       0.00
mean_mutual_information 0.00       0.00       0.30       0.20       0.76       0.00
======================= ========== ========== ========== ========== ========== ==========

What metrics do not see, column by column. *Rotated*: all but explicitness and InfoE fall, which no linear mixture
lowers. *Duplicated*: MIG, RMIG and SAP fall to 0, as for a mixed code; the FactorVAE score, modularity, InfoM, DCI and
IRS see no harm. *Entangled*: the total correlation of normal variables stays 0, for the mixtures are uncorrelated,
where the mutual information does not. *Noise*: DCI, its completeness, modularity and IRS are those of a rotated or an
entangled code, the scores that guess a factor 1 / K; explicitness, InfoE and the NRMSE tell that nothing is known.
Lower is better for JEMMIG, the NRMSE and the last two rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.beta_vae import beta_vae_score
from ppl_disent.metrics.dci import dci
from ppl_disent.metrics.factor_vae import factor_vae_score
from ppl_disent.metrics.infomec import infomec
from ppl_disent.metrics.information import Array, Indices, entropy
from ppl_disent.metrics.irs import irs
from ppl_disent.metrics.jemmig import jemmig
from ppl_disent.metrics.mig import mig
from ppl_disent.metrics.modularity import modularity_explicitness
from ppl_disent.metrics.rmig import rmig
from ppl_disent.metrics.sap import sap
from ppl_disent.metrics.unsupervised import gaussian_total_correlation, mean_mutual_information

if TYPE_CHECKING:
    import pandas as pd

ROWS = (
    *("mig", "rmig", "jemmig", "dci", "dci completeness", "dci nrmse", "sap", "modularity", "explicitness", "irs"),
    *("infom", "infoe", "infoc", "factor_vae_score", "beta_vae_score", "total_correlation", "mean_mutual_information"),
)
VALUES = FACTORS = 4
_GRID = VALUES**FACTORS
# H of one factor, and of the sums of two, three and four of them, which have 7, 10 and 13 values.
_LEVELS = np.full(VALUES, 1 / VALUES)
_PAIR = np.convolve(_LEVELS, _LEVELS)
_H1, _H2, _H3, _H4 = (
    float(entropy(p)) for p in (_LEVELS, _PAIR, np.convolve(_PAIR, _LEVELS), np.convolve(_PAIR, _PAIR))
)
_JEMMIG_UNIT = _H1 + math.log(100)


@dataclass(frozen=True, eq=False)
class Case:
    """One code.

    Attributes:
        name: ``"perfect"``, ``"permuted"``, ``"rotated"``, ``"duplicated"``, ``"entangled"`` or ``"noise"``.
        codes: An ``(n, L)`` array.
        factors: An ``(n, 4)`` array of values from 0 to 3.
        analytic: What metrics should give, by their row in :func:`table`, where that is known: exactly, or for
            infinitely many points, draws or iterations.
    """

    name: str
    codes: Array
    factors: Indices
    analytic: Mapping[str, float]


def cases(n: int = 2560, seed: int = 0) -> list[Case]:
    """The codes.

    - *perfect*: the factors' values;
    - *permuted*: the same in another order, two with the other sign, all in other units;
    - *rotated*: the first two and the last two turned by 45 degrees, (x_0 + x_1) / sqrt 2, (x_0 - x_1) / sqrt 2, ...;
    - *duplicated*: every factor twice;
    - *entangled*: four orthogonal mixtures, in each of which all factors weigh 1/2, with either sign;
    - *noise*: four normal numbers that know nothing.

    Args:
        n: The number of points; each combination of factors occurs ``n / 256`` times, rounded up.
        seed: Of their order, and of the noise.

    Raises:
        ArgumentError: If n is not a positive integer.

    Example:
        >>> from ppl_disent.metrics import bench
        >>> [case.name for case in bench.cases(256)]
        ['perfect', 'permuted', 'rotated', 'duplicated', 'entangled', 'noise']
    """
    if not isinstance(n, int) or n < 1:
        raise ArgumentError("n", got=n, expected="a positive integer")
    rng = np.random.default_rng(seed)
    points = rng.permutation(np.arange(-(-n // _GRID) * _GRID) % _GRID)
    v = np.stack(np.unravel_index(points, (VALUES,) * FACTORS), axis=1)
    # Mixed as integers: rounded sums would put equal codes on both sides of the edge of a bin.
    whole, pair = 2 * v - 3, np.array([[1, 1], [1, -1]])
    x = whole / math.sqrt(5)
    turned = whole @ np.kron(np.eye(2, dtype=int), pair) / math.sqrt(10)
    mixed = whole @ np.kron(pair, pair) / math.sqrt(20)
    zero = {"jemmig": 0.0, "total_correlation": 0.0, "mean_mutual_information": 0.0}
    perfect = dict.fromkeys(ROWS, 1.0) | {"dci nrmse": 0.02} | zero
    none = dict.fromkeys(("mig", "rmig", "sap", "total_correlation"), 0.0)
    return [
        Case("perfect", x, v, perfect),
        Case("permuted", x[:, [2, 0, 3, 1]] * [-1, 0.5, 2, -1.5], v, perfect),
        Case(
            "rotated",
            turned,
            v,
            # Of two latents each tells half of the factor, and each is half of the other factor.
            none
            | {"jemmig": 2 * _H1 / _JEMMIG_UNIT, "dci": 0.5, "dci completeness": 0.5, "dci nrmse": 0.02 * math.sqrt(2)}
            | {"modularity": 2 / 3, "explicitness": 1.0, "irs": 0.5, "infom": 1 / 3, "infoe": 1.0, "infoc": 1 / 3}
            | {"factor_vae_score": 0.5, "beta_vae_score": 0.5}
            | {"mean_mutual_information": (2 * _H2 - 2 * _H1) / 3},
        ),
        Case(
            "duplicated",
            np.concatenate([x, x], axis=1),
            v,
            # Which of two equal latents a Lasso uses is left to its solver, hence no completeness.
            {name: value for name, value in perfect.items() if name != "dci completeness"}
            | none
            | {"jemmig": _H1 / _JEMMIG_UNIT, "infoc": 3 / 7, "total_correlation": math.inf}
            | {"mean_mutual_information": _H1 / 7},
        ),
        Case(
            "entangled",
            mixed,
            v,
            none
            | {"jemmig": (_H1 + _H3) / _JEMMIG_UNIT, "dci": 0.0, "dci completeness": 0.0, "dci nrmse": 0.04}
            | {"modularity": 0.0, "explicitness": 1.0, "irs": 0.25, "infom": 0.0, "infoe": 1.0, "infoc": 0.0}
            | {"factor_vae_score": 0.25, "beta_vae_score": 0.25, "mean_mutual_information": 2 * _H4 - 2 * _H2},
        ),
        Case(
            "noise",
            rng.normal(size=x.shape),
            v,
            none
            | {"explicitness": 0.5, "infoe": 0.0, "factor_vae_score": 0.25, "beta_vae_score": 0.25}
            | {"dci nrmse": 1.0, "mean_mutual_information": 0.0},
        ),
    ]


def table(n: int = 2560, seed: int = 0) -> pd.DataFrame:
    """What the metrics give: a row for each metric (or part of one), a column for each case.

    ``dci`` is that of the Lasso, ``dci nrmse`` its informativeness (lower is better, as for ``jemmig``), ``sap`` the
    squared correlation, ``infom``, ``infoe`` and ``infoc`` those with binned information; all else is as by default,
    but the two metrics that sample, which are cut to a fifth of their draws.

    Args:
        n: As for :func:`cases`.
        seed: As for :func:`cases`, and of the metrics.
    """
    import pandas as pd

    return pd.DataFrame({case.name: scores(case.codes, case.factors, seed) for case in cases(n, seed)})


def analytic(n: int = 2560, seed: int = 0) -> pd.DataFrame:
    """What they should give: a table of the same form as :func:`table`, NaN where there is no formula.

    Example:
        >>> from ppl_disent.metrics import bench
        >>> bench.analytic(256).loc["modularity"].round(3).tolist()
        [1.0, 1.0, 0.667, 1.0, 0.0, nan]
    """
    import pandas as pd

    return pd.DataFrame({case.name: case.analytic for case in cases(n, seed)}).reindex(pd.Index(ROWS))


def scores(codes: Array, factors: Indices, seed: int = 0) -> dict[str, float]:
    """The column of :func:`table` of any codes ``(n, L)`` of discrete factors ``(n, K)``.

    Example:
        >>> from ppl_disent.metrics import bench
        >>> case = bench.cases(256)[0]
        >>> round(bench.scores(case.codes, case.factors)["irs"], 3)
        1.0
    """
    lasso = dci(codes, factors, estimator="lasso", seed=seed)
    modular = modularity_explicitness(codes, factors, seed=seed)
    info = infomec(codes, factors, estimator="binned")
    data = _Coded(torch.tensor(codes), torch.tensor(factors))
    return dict(
        zip(
            ROWS,
            (
                *(float(metric(codes, factors)) for metric in (mig, rmig, jemmig)),
                *(float(lasso), lasso.detail["completeness"], lasso.detail["informativeness"]),
                float(sap(codes, factors, continuous=True)),
                *(float(modular), modular.detail["explicitness"]),
                float(irs(codes, factors)),
                *(info.detail[part] for part in ("modularity", "explicitness", "compactness")),
                float(factor_vae_score(_itself, data, votes=2000, eval_votes=1000, seed=seed)),
                float(beta_vae_score(_itself, data, points=2000, eval_points=1000, seed=seed)),
                *(float(metric(codes)) for metric in (gaussian_total_correlation, mean_mutual_information)),
            ),
        )
    )


@dataclass(frozen=True, eq=False)
class _Coded:
    """A data set whose observations are codes already."""

    codes: torch.Tensor
    factors: torch.Tensor
    factor_names: tuple[str, ...] = ()

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.codes[index],)


def _itself(codes: torch.Tensor) -> torch.Tensor:
    return codes
