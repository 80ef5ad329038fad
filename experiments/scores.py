# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every figure of a run that needs no more than images and their factors: the same ones for all methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.generation import pixels
from experiments.outcome import Codes, encode, factors_of
from ppl_disent import metrics
from ppl_disent.data import Arrays, Dataset
from ppl_disent.errors import DataError
from ppl_disent.run import Run

# Codes for boosted trees, images made for a distance of distributions, and of these those for the slow one.
BOOSTED, SAMPLED, SLICED = 3000, 2000, 500
# A latent is active whose mean varies by more (Burda et al., "Importance Weighted Autoencoders", 2016).
ACTIVE = 0.01


@dataclass(frozen=True)
class Figure:
    """What a figure is called, and whether more of it is better: 1, -1, or 0 where neither is."""

    name: str
    sign: int

    @property
    def heading(self) -> str:
        """The name with an arrow to where it is good."""
        return self.name + {1: " ↑", -1: " ↓", 0: ""}[self.sign]


FIGURES = {
    "squared_error": Figure("squared error of reconstructions", -1),
    "cross_entropy": Figure("cross-entropy of reconstructions, nats", -1),
    "pixel_distance": Figure("Fréchet distance of pixels", -1),
    "swd": Figure("sliced Wasserstein distance, x 1000", -1),
    "kl": Figure("KL of the latents, nats", 0),
    "active": Figure("active latents", 0),
    "mig": Figure("MIG", 1),
    "rmig": Figure("RMIG", 1),
    "jemmig": Figure("JEMMIG", -1),
    "dci": Figure("DCI disentanglement, boosting", 1),
    "completeness": Figure("DCI completeness, boosting", 1),
    "informativeness": Figure("DCI informativeness, accuracy", 1),
    "dci_lasso": Figure("DCI disentanglement, Lasso", 1),
    "sap": Figure("SAP, squared correlation", 1),
    "modularity": Figure("modularity", 1),
    "explicitness": Figure("explicitness", 1),
    "irs": Figure("IRS", 1),
    "infom": Figure("InfoM", 1),
    "infoe": Figure("InfoE", 1),
    "infoc": Figure("InfoC", 1),
    "factor_vae_score": Figure("FactorVAE score", 1),
    "beta_vae_score": Figure("beta-VAE score", 1),
    "total_correlation": Figure("total correlation of means, nats", -1),
    "mutual_information": Figure("mean mutual information of means, nats", -1),
    "udr": Figure("UDR", 1),
}


def scores(fitted: Run, data: Dataset, *, conditional: bool) -> tuple[dict[str, float | None], Codes]:
    """The figures of a run on held-out images; None where the data's factors do not allow one.

    Args:
        fitted: The run.
        data: Images with values in [0, 1]; up to 10,000 of them are scored.
        conditional: Whether the model takes the labels that come with an image.
    """
    codes = encode(fitted, data, progress=False)
    return _images(fitted, data, codes, conditional) | _codes(codes) | _factors(codes, data), codes


def _images(fitted: Run, data: Dataset, codes: Codes, conditional: bool) -> dict[str, float | None]:
    q, squared, crossed = fitted.posterior, [], []
    for part in codes.index.split(1000):
        batch = data.batch(part)
        x, mean = batch[0].cpu(), q.reconstruct(*batch).cpu().clamp(0, 1)
        squared.append(metrics.reconstruction_error(x, mean, kind="mse").detail["per_datum"].sum())
        crossed.append(metrics.reconstruction_error(x, mean, kind="bernoulli").detail["per_datum"].sum())
    real = data.batch(codes.index[:SAMPLED])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = q.sample(len(real[0]), *real[1 if conditional else len(real) :]).cpu().clamp(0, 1)
    n = len(codes.index)
    return {
        "squared_error": float(sum(squared) / n),
        "cross_entropy": float(sum(crossed) / n),
        "pixel_distance": float(metrics.fid(real[0].cpu(), made, features=pixels)),
        "swd": float(metrics.swd(real[0][:SLICED].cpu(), made[:SLICED])) if min(real[0].shape[2:]) >= 16 else None,
    }


def _codes(codes: Codes) -> dict[str, float | None]:
    mean = torch.cat(list(codes.mean.values()), 1)
    return {
        "kl": sum(kl.sum().item() for kl in codes.kl.values()),
        "active": int((mean.var(0) > ACTIVE).sum()),
        "total_correlation": float(metrics.gaussian_total_correlation(mean)),
        "mutual_information": float(metrics.mean_mutual_information(mean)) if mean.shape[1] > 1 else None,
    }


def _factors(codes: Codes, data: Dataset) -> dict[str, float | None]:
    found = dict.fromkeys(("mig", "rmig", "jemmig", "sap", "irs"), None) | dict.fromkeys(_SEVERAL, None)
    try:
        v, names = factors_of(codes, data)
    except DataError:
        return found
    mean, stddev = (torch.cat(list(each.values()), 1) for each in (codes.mean, codes.stddev))
    result: dict[str, float | None] = found | {
        "mig": float(metrics.mig(mean, v)),
        "rmig": float(metrics.rmig((mean, stddev), v)),
        "jemmig": float(metrics.jemmig((mean, stddev), v)),
        "sap": float(metrics.sap(mean, v, continuous=True)),
        "irs": float(metrics.irs(mean, v)),
    }
    if len(names) > 1:
        result |= dict(zip(_SEVERAL, _several(mean, v)))
    return result


_SEVERAL = (
    *("dci", "completeness", "informativeness", "dci_lasso", "modularity", "explicitness"),
    *("infom", "infoe", "infoc", "factor_vae_score", "beta_vae_score"),
)


def _several(mean: Tensor, v: Tensor) -> tuple[float, ...]:
    """What asks which of several factors a latent is about."""
    boosted = metrics.dci(mean[:BOOSTED], v[:BOOSTED], estimator="hist_gradient_boosting").detail
    modular = metrics.modularity_explicitness(mean, v)
    info = metrics.infomec(mean, v, estimator="binned").detail
    # Images that are scored have been encoded: the metrics that sample draw among their codes.
    sizes = (v.max(0).values + 1).tolist()
    known = Arrays(
        mean, likelihood="gaussian", factors=v, factor_names=[f"v{k}" for k in range(len(sizes))], factor_sizes=sizes
    )
    return (
        *(boosted[part] for part in ("disentanglement", "completeness", "informativeness")),
        float(metrics.dci(mean, v, estimator="lasso")),
        *(float(modular), modular.detail["explicitness"]),
        *(info[part] for part in ("modularity", "explicitness", "compactness")),
        float(metrics.factor_vae_score(_itself, known)),
        float(metrics.beta_vae_score(_itself, known)),
    )


def _itself(codes: Tensor) -> Tensor:
    return codes
