# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Networks of the papers, in torch only: MLP, ConvEncoder, ConvDecoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ppl_disent.errors import ArgumentError, DataError

Shape = Sequence[int]


def kaiming_(module: nn.Sequential) -> nn.Sequential:
    """Initialises like the official codes of ControlVAE and DynamicVAE, in place.

    Kaiming normal (fan in, gain of ReLU) and zero bias for Linear and Conv2d; transposed convolutions keep torch's
    default (shj1987/DynamicVAE-CVPR2022, 2D-sprites/model.py: ``kaiming_init`` does not match them).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        inputs: Number of inputs, or the shape of one input (flattened). Several inputs are concatenated.
        outputs: Number of outputs, or the shape of one output.
        hidden: Widths of the hidden layers.

    Example:
        >>> MLP((1, 8, 8), 20)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 20])
    """

    def __init__(self, inputs: int | Shape, outputs: int | Shape, *, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        self.inputs = _size("inputs", inputs)
        self.out_shape = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        widths = [self.inputs, *hidden, _size("outputs", outputs)]
        layers: list[nn.Module] = []
        for i, o in pairwise(widths):
            layers += [nn.Linear(i, o), nn.ReLU()]
        self.net = kaiming_(nn.Sequential(*layers[:-1]))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Maps inputs of shape ``(batch, ...)``, together ``(batch, inputs)``, to ``(batch, *outputs)``."""
        x = inputs[0].flatten(1) if len(inputs) == 1 else torch.cat([i.flatten(1) for i in inputs], -1)
        if x.shape[-1] != self.inputs:
            got = ", ".join(str(tuple(i.shape)) for i in inputs)
            raise DataError(f"x: got shape {got}, expected {self.inputs} values a datum.")
        y: Tensor = self.net(_checked(x, self.net[0]))
        return y if len(self.out_shape) == 1 else y.unflatten(-1, self.out_shape)


class ConvEncoder(nn.Module):
    """Convolutions 4x4 of stride 2 with ReLU, halving the image down to 4x4 (7x7 from 28), then linear layers.

    The defaults at 64x64 are the network of ControlVAE and DynamicVAE ("H"): 32, 32, 64, 64 channels, 256 units.
    Burgess' network ("B") is ``channels=(32, 32, 32, 32), hidden=(256, 256)``. Other sizes use the last layers'
    channels (and repeat the first where more are needed).

    Args:
        shape: ``(channels, height, width)`` of one image; square, 28 or a power of two of at least 8 pixels.
        outputs: Number of outputs.
        channels: Channels after each convolution, from the image side, for four convolutions.
        hidden: Widths of the linear layers after them.
        fields: How many values a datum has beside its image, such as labels: they enter after the convolutions.

    Raises:
        ArgumentError: For a shape that cannot be halved down to 4 or 7 pixels.

    Example:
        >>> ConvEncoder((3, 64, 64), 2 * 10, channels=(8, 8, 16, 16))(torch.zeros(5, 3, 64, 64)).shape
        torch.Size([5, 20])
    """

    def __init__(
        self,
        shape: Shape,
        outputs: int,
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        hidden: Sequence[int] = (256,),
        fields: int = 0,
    ) -> None:
        super().__init__()
        self.shape, self.fields = tuple(shape), fields
        side, widths = _pyramid(self.shape, channels)
        layers: list[nn.Module] = []
        for i, o in zip([self.shape[0], *widths], widths):
            layers += [nn.Conv2d(i, o, 4, 2, 1), nn.ReLU()]
        sizes = [widths[-1] * side * side + fields, *hidden, outputs]
        layers.append(nn.Flatten())
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o), nn.ReLU()]
        self.net = kaiming_(nn.Sequential(*layers[:-1]))

    def forward(self, x: Tensor, *fields: Tensor) -> Tensor:
        """Maps images ``(batch, *shape)``, and fields of together ``fields`` values, to ``(batch, outputs)``."""
        if x.shape[1:] != self.shape:
            expected = ", ".join(map(str, self.shape))
            raise DataError(f"x: got images of shape {tuple(x.shape)}, expected (batch, {expected}).")
        x = _checked(x, self.net[0])
        if not self.fields and not fields:
            y: Tensor = self.net(x)
            return y
        if (got := sum(field.flatten(1).shape[1] for field in fields)) != self.fields:
            raise DataError(f"fields: got {got} values a datum beside the image, expected {self.fields}.")
        for layer in self.net:
            x = layer(x)
            if isinstance(layer, nn.Flatten):
                x = torch.cat([x, *(field.flatten(1) for field in fields)], -1)
        return x


class ConvDecoder(nn.Module):
    """The mirror of :class:`ConvEncoder`: latent values to logits or means of an image.

    Args:
        inputs: Number of latent values.
        shape: ``(channels, height, width)`` of one image, as for the encoder.
        channels: Channels before each transposed convolution, from the latent side, for four of them.
        hidden: Widths of the linear layers before them.
        top: How the last hidden layer becomes an image of ``channels[0]`` channels: ``"conv"``, a transposed
            convolution (network "H"), or ``"linear"`` (Burgess' network "B").

    Example:
        >>> ConvDecoder(10, (3, 64, 64), channels=(16, 16, 8, 8))(torch.zeros(5, 10)).shape
        torch.Size([5, 3, 64, 64])
    """

    def __init__(
        self,
        inputs: int,
        shape: Shape,
        *,
        channels: Sequence[int] = (64, 64, 32, 32),
        hidden: Sequence[int] = (256,),
        top: str = "conv",
    ) -> None:
        super().__init__()
        if top not in ("conv", "linear"):
            raise ArgumentError("top", got=top, expected="'conv' or 'linear'")
        self.inputs, self.shape = inputs, tuple(shape)
        side, widths = _pyramid(self.shape, channels[::-1])
        widths = widths[::-1]
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o), nn.ReLU()]
        if top == "conv":
            layers += [nn.Unflatten(1, (sizes[-1], 1, 1)), nn.ConvTranspose2d(sizes[-1], widths[0], side), nn.ReLU()]
        else:
            layers += [nn.Linear(sizes[-1], widths[0] * side**2), nn.ReLU(), nn.Unflatten(1, (widths[0], side, side))]
        for i, o in zip(widths, [*widths[1:], self.shape[0]]):
            layers += [nn.ConvTranspose2d(i, o, 4, 2, 1), nn.ReLU()]
        self.net = kaiming_(nn.Sequential(*layers[:-1]))

    def forward(self, z: Tensor) -> Tensor:
        """Maps latent values ``(batch, inputs)`` to ``(batch, *shape)``."""
        if z.shape[-1] != self.inputs:
            raise DataError(f"latent values: got shape {tuple(z.shape)}, expected (batch, {self.inputs}).")
        y: Tensor = self.net(z)
        return y


class RKMEncoder(nn.Module):
    """St-RKM's encoder: three convolutions and two linear layers with LeakyReLU of slope 0.2 between them.

    EigenPandey/Stiefel_Restricted_Kernel_Machine, stiefel_rkm_model.py, whose 28 and 64 pixels are special cases: the
    third convolution keeps its size up to 28 pixels (3x3, not padded) and halves it beyond (4x4).

    Args:
        shape: ``(channels, side, side)`` of one image, at least 4 pixels wide.
        outputs: Number of outputs.
        capacity: Channels of the first convolution; the others have 2 and 4 times as many.
        hidden: Width of the first linear layer.

    Raises:
        ArgumentError: For a shape that does not fit.

    Example:
        >>> RKMEncoder((1, 28, 28), 50, capacity=4)(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 50])
    """

    def __init__(self, shape: Shape, outputs: int, *, capacity: int = 64, hidden: int = 256) -> None:
        super().__init__()
        self.shape = tuple(shape)
        (*_, side), kernel = _rkm_sides(self.shape)
        c = capacity
        layers: list[nn.Module] = []
        for conv in (
            nn.Conv2d(self.shape[0], c, 4, 2, 1),
            nn.Conv2d(c, 2 * c, 4, 2, 1),
            nn.Conv2d(2 * c, 4 * c, *kernel),
        ):
            layers += [conv, nn.LeakyReLU(0.2)]
        layers += [nn.Flatten(), nn.Linear(4 * c * side**2, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs)]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images ``(batch, *shape)`` to ``(batch, outputs)``."""
        if x.shape[1:] != self.shape:
            expected = ", ".join(map(str, self.shape))
            raise DataError(f"x: got images of shape {tuple(x.shape)}, expected (batch, {expected}).")
        y: Tensor = self.net(_checked(x, self.net[0]))
        return y


class RKMDecoder(nn.Module):
    """The mirror of :class:`RKMEncoder`, without the sigmoid that ends St-RKM's: it gives logits.

    Args:
        inputs: Number of inputs.
        shape: ``(channels, height, width)`` of one image, as for the encoder.
        capacity: Channels before the last transposed convolution.
        hidden: Width of the first linear layer.

    Example:
        >>> RKMDecoder(50, (1, 28, 28), capacity=4)(torch.zeros(5, 50)).shape
        torch.Size([5, 1, 28, 28])
    """

    def __init__(self, inputs: int, shape: Shape, *, capacity: int = 64, hidden: int = 256) -> None:
        super().__init__()
        self.inputs, self.shape = inputs, tuple(shape)
        (whole, half, quarter, side), kernel = _rkm_sides(self.shape)
        c = capacity
        # What a halving cut off comes back as padding; a convolution of stride 1 cuts nothing off.
        odd = (quarter % 2 if kernel[1] == 2 else 0, half % 2, whole % 2)
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 4 * c * side**2),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, (4 * c, side, side)),
            nn.ConvTranspose2d(4 * c, 2 * c, *kernel, odd[0]),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(2 * c, c, 4, 2, 1, odd[1]),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(c, self.shape[0], 4, 2, 1, odd[2]),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Maps latent values ``(batch, inputs)`` to ``(batch, *shape)``."""
        if z.shape[-1] != self.inputs:
            raise DataError(f"latent values: got shape {tuple(z.shape)}, expected (batch, {self.inputs}).")
        y: Tensor = self.net(z)
        return y


def _checked(x: Tensor, layer: nn.Module) -> Tensor:
    """Returns ``x`` if the layer can take its dtype."""
    assert isinstance(layer.weight, Tensor)
    if x.dtype != layer.weight.dtype and not torch.is_autocast_enabled(x.device.type):
        to = "x.float() / 255" if x.dtype == torch.uint8 else f"x.to({layer.weight.dtype})"
        raise DataError(f"x: got dtype {x.dtype}, expected {layer.weight.dtype} like the network's. Try {to}.")
    return x


def _size(name: str, given: int | Shape) -> int:
    shape = (given,) if isinstance(given, int) else tuple(given)
    if not shape or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ArgumentError(name, got=given, expected="a positive integer or a shape of positive integers")
    return math.prod(shape)


def _pyramid(shape: tuple[int, ...], channels: Sequence[int]) -> tuple[int, list[int]]:
    """Side of the smallest map, and channels after each halving, for an image of ``shape``."""
    if len(shape) != 3 or shape[1] != shape[2] or shape[0] < 1:
        raise ArgumentError("shape", got=shape, expected="(channels, side, side)")
    side, halvings = shape[1], 0
    while side > 7 and side % 2 == 0:
        side, halvings = side // 2, halvings + 1
    if side not in (4, 7) or not halvings:
        raise ArgumentError("shape", got=shape, expected="a side of 28, or a power of two of at least 8")
    widths = [channels[0]] * max(0, halvings - len(channels)) + list(channels)[-halvings:]
    return side, widths


def _rkm_sides(shape: tuple[int, ...]) -> tuple[tuple[int, int, int, int], tuple[int, int, int]]:
    """Sides of an image and of its three maps, and kernel, stride and padding of the third convolution."""
    side = shape[1] if len(shape) == 3 and shape[1] == shape[2] and shape[0] >= 1 else 0
    if side < 4:
        raise ArgumentError("shape", got=shape, expected="(channels, side, side), a side of at least 4")
    quarter, kernel = side // 4, min(3, side // 4)
    if side > 28:
        return (side, side // 2, quarter, quarter // 2), (4, 2, 1)
    return (side, side // 2, quarter, quarter - kernel + 1), (kernel, 1, 0)
