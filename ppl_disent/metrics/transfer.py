# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Are edited images what was asked for, and are they otherwise as they were?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.labels import as_labels
from ppl_disent.metrics.score import Score

Classifier = Callable[[Tensor], Tensor | npt.ArrayLike]


@torch.no_grad()
def attribute_transfer(
    original: Tensor,
    edited: Tensor,
    labels: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    classifier: Classifier,
    counterfactual: Tensor | None = None,
    label_names: Sequence[str] | None = None,
    batch_size: int = 512,
) -> Score:
    """Judges edits: is the attribute there, are the others kept, how far is the image from the true one?

    The figures, over the rows in which ``target`` differs from ``labels`` (the others are left out, since leaving an
    image as it is would be right for them):

    - *accuracy* of attribute i: the share of edits of i for which the classifier sees what was asked for;
    - *kept* of attribute i: among images in which i was not to change, the share for which the classifier decides of
      i on the edited image as it does on the original;
    - *target_changed* and *original_changed*: squared distance of the edited image from the counterfactual and from the
      original, summed over pixels; *target_original*: of those two from each other, what doing nothing costs;
    - *diversity*: the variance of a pixel over the P edits of one image, summed over pixels: 0 for a model whose edit
      is one image.

    For instance, for attribute 0 switched on in all data that lack it::

        target = labels.clone(); target[:, 0] = 1
        score = attribute_transfer(x, edited, labels, target, classifier=judge,
                                   counterfactual=data.counterfactual(index, 0, on=True))

    Pitfalls:
        The classifier must come from real images and know nothing of the models; its own accuracy on real images
        (``real_accuracy``) is what a perfect edit can reach. An edit in a style of its own is far from the
        counterfactual in the datum's style although it is as good: give the same style to both, or P edits, of which
        ``target_changed_best`` is the least mean distance that one point p reaches. That, and the choice of rows, are
        definitions made here: how the paper computes its tables could not be read.

    Args:
        original: An ``(n, *shape)`` tensor of images.
        edited: The same images edited, ``(n, *shape)``; or ``(P, n, *shape)``, each at P points p of W_i.
        labels: The originals' attributes, an ``(n, k)`` tensor or array of 0 and 1.
        target: What the edited images were to have, likewise; one or more attributes may change.
        classifier: From ``(m, *shape)`` images to ``(m, k)`` logits (positive: there) or decisions (booleans, or
            exactly 0 and 1). See :func:`attribute_classifier`.
        counterfactual: The true edits, where they are known: of the shape of ``original`` or of ``edited``.
        label_names: k names, the keys of ``per_factor``; by default ``y0``, ``y1`` and so on.
        batch_size: Images that the classifier sees at once.

    Returns:
        The mean of the accuracies of the attributes that change, ``per_factor`` each of them. ``detail`` has ``kept``
        and ``real_accuracy`` (by name), ``original_changed``, ``target_changed``, ``target_original``,
        ``target_changed_best``, ``diversity``, and the number of rows ``edits``; None where there is nothing to compute
        it from.

    Raises:
        ArgumentError: If shapes do not fit, if nothing is to change, or if the classifier returns another shape, NaN,
            or what look like probabilities.

    Example:
        >>> import torch
        >>> dark = torch.zeros(3, 1, 2, 2)
        >>> bright = lambda x: x.flatten(1).mean(1, keepdim=True) > 0.5
        >>> score = attribute_transfer(dark, dark + 1, [0, 0, 0], [1, 1, 1], classifier=bright)
        >>> float(score), score.detail["original_changed"]
        (1.0, 4.0)

    References:
        Learning Latent Subspaces in Variational Autoencoders (Klys et al., 2018), section 5,
        https://arxiv.org/abs/1812.06190.
    """
    x, every = _images(original, edited)
    before, names = as_labels("labels", labels, len(x), label_names)
    wanted, _ = as_labels("target", target, len(x), None)
    if wanted.shape != before.shape:
        raise ArgumentError("target", got=wanted.shape, expected=f"the shape of the labels, {before.shape}")
    rows = (before != wanted).any(axis=1)
    if not rows.any():
        raise ArgumentError("target", got="the labels themselves", expected="at least one attribute that changes")
    index = torch.from_numpy(rows.nonzero()[0]).to(x.device)
    x, every, before, wanted = x[index], every[:, index], before[rows], wanted[rows]
    real = _decide(classifier, x, len(names), batch_size)
    seen = np.stack([_decide(classifier, edit, len(names), batch_size) for edit in every])
    changed = before != wanted
    accuracy = _shares(seen == wanted, changed, names)
    per_factor = {name: share for name, share in accuracy.items() if share is not None}
    detail = {
        "kept": _shares(seen == real, ~changed, names),
        "real_accuracy": _shares((real == before)[None], np.ones_like(changed), names),
        "original_changed": float(_distance(every, x).mean()),
        "diversity": None,
        "edits": int(rows.sum()),
        **dict.fromkeys(("target_changed", "target_original", "target_changed_best")),
    }
    if len(every) > 1:
        detail["diversity"] = float(every.double().var(dim=0).flatten(1).sum(1).mean())
    if counterfactual is not None:
        if counterfactual.shape not in (original.shape, edited.shape):
            expected = f"the shape of original, {tuple(original.shape)}, or of edited, {tuple(edited.shape)}"
            raise ArgumentError("counterfactual", got=tuple(counterfactual.shape), expected=expected)
        true = (counterfactual if counterfactual.ndim > original.ndim else counterfactual[None]).to(x.device)[:, index]
        distance = _distance(every, true)
        detail["target_changed"] = float(distance.mean())
        detail["target_changed_best"] = float(distance.mean(1).min())
        detail["target_original"] = float(_distance(true, x).mean())
    how = f"n = {len(x)} edits, {len(every)} point{'s' if len(every) > 1 else ''} each"
    return Score(float(np.mean(list(per_factor.values()))), per_factor, detail, f"accuracy of a classifier, {how}")


def _images(original: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
    """Originals (n, *shape) and edits (P, n, *shape) on one device."""
    if not isinstance(original, Tensor) or original.ndim < 2 or not original.numel():
        raise ArgumentError("original", got=type(original).__name__, expected="a tensor (n, *shape), n at least 1")
    if not isinstance(edited, Tensor) or not edited.numel() or edited.shape[-original.ndim :] != original.shape:
        got = tuple(getattr(edited, "shape", ()))
        expected = f"the shape {tuple(original.shape)}, or (P, *{tuple(original.shape)})"
        raise ArgumentError("edited", got=got, expected=expected)
    if edited.ndim > original.ndim + 1:
        raise ArgumentError("edited", got=tuple(edited.shape), expected="one axis of points p in front, at most")
    for name, value in (("original", original), ("edited", edited)):
        if not value.isfinite().all():
            raise ArgumentError(name, got="NaN or infinite values", expected="finite ones")
    every = edited if edited.ndim > original.ndim else edited[None]
    return original.detach(), every.detach().to(original.device)


def _decide(classifier: Classifier, images: Tensor, k: int, batch_size: int) -> npt.NDArray[np.int64]:
    """The classifier's decisions, (n, k) of 0 and 1."""
    out = torch.cat([torch.as_tensor(classifier(part)).detach().cpu() for part in images.split(batch_size)])
    out = out[:, None] if out.ndim == 1 else out
    if out.shape != (len(images), k):
        raise ArgumentError("classifier", got=f"outputs {tuple(out.shape)}", expected=f"({len(images)}, {k})")
    if not out.isfinite().all():
        raise ArgumentError("classifier", got="NaN or infinite outputs", expected="logits or decisions")
    binary = bool(((out == 0) | (out == 1)).all())
    if not binary and out.min() >= 0 and out.max() <= 1:
        got = f"outputs from {out.min():.3g} to {out.max():.3g}"
        hint = "For probabilities p return p > 0.5."
        raise ArgumentError("classifier", got=got, expected="logits, or decisions of 0 and 1", hint=hint)
    return (out > 0).long().numpy()


def _shares(
    right: npt.NDArray[np.bool_], counted: npt.NDArray[np.bool_], names: Sequence[str]
) -> dict[str, float | None]:
    """By attribute, the share of (P, n, k) that is right where (n, k) counts; None where nothing counts."""
    return {
        name: float(right[:, counted[:, i], i].mean()) if counted[:, i].any() else None for i, name in enumerate(names)
    }


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances summed over pixels of (P, n, *shape) and what broadcasts to it: (P, n)."""
    return (a.double() - b.double()).square().flatten(2).sum(2)
