# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one training loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim
from torch import Tensor, nn
from tqdm.auto import tqdm

from ppl_disent import checkpoint as files
from ppl_disent.batches import Batches, Data, fingerprint
from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError, CheckpointError
from ppl_disent.history import History
from ppl_disent.optim import adam, describe, follow_layout
from ppl_disent.pair import seeded, shapes_of
from ppl_disent.precision import PRECISIONS, lowered, resolved
from ppl_disent.run import Run
from ppl_disent.svi import SVI, ManifoldOptim, check_programs
from ppl_disent.validate import validated_step


def fit(
    model: nn.Module,
    guide: nn.Module,
    elbo: TermELBO,
    data: Data,
    *,
    steps: int,
    batch_size: int = 64,
    optim: PyroOptim | None = None,
    manifold_optim: ManifoldOptim | None = None,
    callbacks: Iterable[Any] = (),
    device: str | torch.device | None = None,
    precision: str = "float32",
    seed: int = 0,
    log_every: int = 100,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: bool = True,
    recipe: Mapping[str, Any] | None = None,
) -> Run:
    """Trains a pair.

    First runs one validated step without consequences (sites, shapes, range of the data, finite terms), then works
    with validation off. The global random state, Pyro's param store and its validation flag are left as found. With
    the same seed on the same machine the numbers are the same, also across a stop and ``resume``.

    Args:
        model: The program of p, a torch module.
        guide: The program of q, a torch module.
        elbo: The objective.
        data: A ``Dataset`` (``len`` and ``batch(index)``), a tensor or tuple of tensors, or any iterable of batches,
            which then owns its order (and exact resume is not promised).
        steps: Optimisation steps in all, those before a resume included.
        batch_size: Rows a batch; all rows where there are fewer. Not used for an iterable.
        optim: Pyro's optimizer of the Euclidean parameters; by default fused Adam with learning rate 1e-3.
        manifold_optim: Optimizer of each ``geoopt.ManifoldParameter``, see :class:`ppl_disent.SVI`.
        callbacks: See :class:`ppl_disent.SVI`.
        device: Where to train; by default CUDA where there is one. The programs stay there.
        precision: ``"bfloat16"`` runs the networks under autocast; all else keeps the programs' dtype, as everything
            does with ``"float32"``. ``"auto"`` is bfloat16 where the processor has instructions for it.
        seed: Of the order of the data and of the latents' noise. The programs' initial values are the caller's.
        log_every: Steps a row of the history, and between two looks at the terms by the host.
        checkpoint: A file that holds everything needed to go on; it, and the one before it, are kept.
        checkpoint_every: Steps between checkpoints, 1000 by default; there is always one at the end.
        resume: Go on from ``checkpoint`` if it exists.
        progress: Show a progress bar.
        recipe: How to build the programs again, ``{"builder": name, "arguments": {...}}``; kept for ``Run.load``.

    Returns:
        The fitted pair with its history.

    Raises:
        ArgumentError: For an argument out of its range, or a checkpoint that exists where ``resume`` is False.
        SiteError: If model, guide, objective and callbacks do not agree on the sites.
        DataError: For data of the wrong shape, type or range, or with NaN.
        CheckpointError: If ``checkpoint`` is damaged or foreign, or of a run with other settings.
        NonFiniteError: When a term becomes NaN or infinite; the last checkpoint is from before.

    Example:
        >>> import guides
        >>> from ppl_disent.methods import VAE
        >>> model = VAE(MLP(4, (1, 8, 8)), 4, Bernoulli())
        >>> guide = guides.Gaussian(z=MLP((1, 8, 8), 2 * 4))
        >>> elbo, options = TermELBO(kl_scale=2.0), {"checkpoint": "run.pt", "progress": False}
        >>> run = fit(model, guide, elbo, load("digits"), steps=3, **options)
        >>> run = fit(model, guide, elbo, load("digits"), steps=5, resume=True, **options)  # goes on
        >>> run.step
        5
    """
    for name, value in {"steps": steps, "batch_size": batch_size, "log_every": log_every}.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(name, got=value, expected="an integer of at least 1")
    if checkpoint_every is not None and (not isinstance(checkpoint_every, int) or checkpoint_every < 1):
        raise ArgumentError("checkpoint_every", got=checkpoint_every, expected="None or an integer of at least 1")
    if precision not in PRECISIONS:
        raise ArgumentError("precision", got=precision, expected=f"one of {PRECISIONS}")
    if not isinstance(callbacks, (list, tuple)):
        raise ArgumentError("callbacks", got=type(callbacks).__name__, expected="a list of callbacks")
    if resume and checkpoint is None:
        raise ArgumentError("resume", got=True, expected="a checkpoint to resume from")
    check_programs(model, guide)
    if not isinstance(elbo, TermELBO):
        raise ArgumentError("elbo", got=elbo, expected="a TermELBO")
    where = _device(device)
    precision = resolved(precision, where)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        files.check_writable(path)
        if path.exists() and not resume:
            hint = "Pass resume=True to go on from it, or remove it."
            raise CheckpointError(f"{path}: exists already, and would be overwritten. {hint}")

    optim = adam(1e-3) if optim is None else optim
    if not isinstance(optim, PyroOptim):
        raise ArgumentError("optim", got=optim, expected="a PyroOptim, such as pyro.optim.Adam({'lr': 1e-3})")
    with _isolated(seed, where), lowered((model, guide), precision, where):
        model.to(where).train()
        guide.to(where).train()
        follow_layout(optim)
        batches = Batches(data, batch_size, seed, where)
        elbo.reset()
        first = validated_step(model, guide, elbo, batches)
        history = History(min(log_every, steps))
        svi = SVI(model, guide, optim, elbo, manifold_optim=manifold_optim, callbacks=[*callbacks, history])
        for hook in svi.hooks:
            if isinstance(hook, nn.Module):
                hook.to(where)
        svi.call_hooks("before_fit", svi, data)
        settings = {
            "method": None if recipe is None else recipe["builder"],
            "batch_size": batch_size,
            "seed": seed,
            "precision": precision,
            "log_every": log_every,
            "device": where.type,
            "data": fingerprint(data),
            **describe(optim),
            **_settings(svi),
            **{f"method.{k}": _plain(v) for k, v in (recipe or {}).get("arguments", {}).items()},
        }
        shapes = shapes_of(first.batch)
        if path is not None and path.exists():
            _restore(path, steps, settings, svi, history, batches, where)

        def save() -> None:
            assert path is not None
            history.check(svi)
            content = {
                "settings": settings,
                "recipe": recipe,
                "shapes": [(shape, str(dtype).removeprefix("torch.")) for shape, dtype in shapes],
                "svi": svi.state_dict(),
                "history": history.dump(),
                "batches": batches.state_dict(),
                "rng": {"cpu": torch.get_rng_state(), **_cuda_state(where)},
            }
            files.save(path, content)

        every, began = checkpoint_every or 1000, svi.index
        with tqdm(total=steps, initial=svi.index, disable=not progress, unit="step", dynamic_ncols=True) as bar:
            while svi.index < steps:
                svi.step(*next(batches))
                if svi.index % log_every == 0 or svi.index == steps:
                    row = history.close_row(svi)
                    svi.call_hooks("after_record", svi, row)
                    bar.set_postfix(_short(row), refresh=False)
                    bar.update(svi.index - bar.n)
                if path is not None and svi.index % every == 0 and svi.index < steps:
                    save()
        run = Run(model, guide, elbo, svi.index, history.frame(), shapes, recipe, settings)
        try:
            svi.call_hooks("after_fit", run, data)
        finally:
            if path is not None and svi.index > began:
                save()  # only now: what such a hook settles belongs to the run
    follow_layout(optim)
    return run


def _device(given: str | torch.device | None) -> torch.device:
    expected = "None, 'cpu', or a CUDA device that is there"
    try:
        device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, TypeError) as error:
        raise ArgumentError("device", got=given, expected=expected) from error
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise ArgumentError("device", got=given, expected=expected)
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return device


@contextmanager
def _isolated(seed: int, device: torch.device) -> Iterator[None]:
    """Random state of its own, an empty param store, validation off; all as before afterwards."""
    with seeded(seed, device), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        yield


def _cuda_state(device: torch.device) -> dict[str, Tensor]:
    return {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}


def _settings(svi: SVI) -> dict[str, Any]:
    """What of the objective and the hooks a resumed run must share."""
    elbo = svi.elbo
    settings: dict[str, Any] = {"num_particles": elbo.num_particles, "lik_scale": _plain(elbo.lik_scale)}
    settings |= {f"kl_scale.{site or 'others'}": value for site, value in elbo.given_kl_scale.items()}
    settings |= {f"terms.{name}": _plain(weight) for name, (weight, _) in elbo.terms.items()}
    if (optim := svi.manifold_optim) is not None:
        settings |= {"manifold_optim": type(optim).__name__}
        settings |= {f"manifold_optim.{k}": _plain(v) for k, v in optim.defaults.items()}
    for i, hook in enumerate(svi.acting[:-1]):
        settings[f"hook {i}"] = type(hook).__name__
        settings |= {f"{type(hook).__name__}.{k}": _plain(v) for k, v in getattr(hook, "settings", {}).items()}
    return settings


def _plain(value: Any) -> Any:
    value = files.plain(value)
    return value if isinstance(value, (int, float, str, bool, tuple, type(None))) else repr(value)


def _restore(
    path: Path,
    steps: int,
    settings: dict[str, Any],
    svi: SVI,
    history: History,
    batches: Batches,
    device: torch.device,
) -> None:
    """Puts everything where the checkpoint left it; nothing is touched before its settings are known to agree."""
    content = files.load(path, repair=True)
    if content["settings"]["method"] != settings["method"]:
        made = content["settings"]["method"] or "programs without a builder"
        raise CheckpointError(f"{path}: of a run of {made}, and this is {settings['method'] or 'another pair'}.")
    if differ := files.differences(content["settings"], settings):
        raise CheckpointError(f"{path}: the run had other settings: {differ}.")
    if content["svi"]["index"] > steps:
        raise ArgumentError("steps", got=steps, expected=f"at least the {content['svi']['index']} of the checkpoint")
    try:
        svi.load_state_dict(content["svi"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit these programs: {error}") from error
    history.restore(content["history"])
    history.to(device)
    batches.load_state_dict(content["batches"])
    torch.set_rng_state(content["rng"]["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(content["rng"]["cuda"], device)


def _short(row: Mapping[str, float]) -> dict[str, str]:
    """The figures beside the progress bar: loss, KL and beta."""
    names = {k: k.replace("kl_scale", "beta") for k in row if k == "loss" or k.startswith(("kl.", "kl_scale."))}
    return {shown: f"{row[k]:.4g}" for k, shown in names.items()}
