"""Build a network from its configuration. A backbone is one file and one line in ``BACKBONES``."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Annotated, Any, get_args, get_type_hints

import torch
import tyro

from uncus.models.backbones import monai
from uncus.models.backbones.anatomy import Anatomy
from uncus.models.backbones.resnet import ResNet
from uncus.models.backbones.sfcn import SFCN
from uncus.models.backbones.tiny import Tiny
from uncus.models.base import Classifier
from uncus.models.covariates import Covariates
from uncus.models.norms.group_plus import GroupPlusNorm
from uncus.models.norms.registry import NORMS
from uncus.models.swap import check_norms, swap_norm
from uncus.models.weight_standardization import standardize_convolutions


@dataclass(frozen=True)
class ModelConfig:
    """The network's architecture; saved with each run, and enough to build the network again."""

    backbone: str = "resnet18"
    """tiny, resnet10, resnet18, resnet34, resnet50, sfcn, densenet121, efficientnet-b0, seresnet50
    or anatomy."""
    norm: str = "group"
    """Normalization layer throughout the network: group, batch, instance, layer, positional,
    batch_group, group_plus, frn or batch_channel."""
    groups: int | None = None
    """Number of groups of group, batch_group, group_plus and batch_channel norm; must divide the
    channels of every layer. Default: 8; for batch_group, set by the batch size."""
    classes: Annotated[int, tyro.conf.Suppress] = 2
    """Columns of the output: classes, or regression targets; a run sets it from its target."""
    width: int = 16
    """Channels of the first stage; the others keep their ratio to it. 16 suits hundreds of scans;
    the papers use 64 (resnet, densenet, seresnet) or 32 (sfcn, efficientnet)."""
    dropout: float = 0.2
    """Probability of dropping a feature before the head, in training."""
    stem_stride: int = 2
    """resnet: stride of the first convolution. 1 keeps more detail at 8 times the computation."""
    stem_kernel: int = 3
    """resnet: size of the first convolution, odd. 7 in the paper and in MedicalNet."""
    stem_pool: bool = False
    """resnet: max pooling after the first convolution, as in the paper and in MedicalNet."""
    shortcut: str = "B"
    """resnet: B, a convolution where a stage changes shape; A, zero padding (MedicalNet 18, 34)."""
    channels_per_group: int | None = None
    """Channels of each group, the same in every layer, instead of the number of groups; the GN
    paper tried 2 to 64."""
    weight_standardization: bool = False
    """Standardize the filters of every convolution followed by a norm (Qiao 2019); designed for
    group norm at batch sizes of one or two."""
    moment_shortcut: bool = False
    """resnet with positional norm: each block restores the means and standard deviations that its
    first norm removed (Li 2019)."""
    group_plus_literal: bool = False
    """group_plus as in its authors' code, without running statistics. A prediction then depends on
    the other scans of its batch, and a single scan has none, so uncus train rejects it; for studies
    of the layer."""
    covariates: Annotated[int, tyro.conf.Suppress] = 0
    """Number of covariates; a run sets it from --covariates."""
    covariate_degree: Annotated[int, tyro.conf.Suppress] = 1
    """Degree of the covariates' polynomials; a run with --age-norms sets it to 2."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if isinstance(kind, UnionType):
                if value is None:
                    continue
                kind = get_args(kind)[0]
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, name, float(value))
            elif not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
                raise ValueError(f"{name}={value!r}: must be of type {kind.__name__}")
        _known("backbone", self.backbone, BACKBONES)
        _known("norm", self.norm, NORMS)
        _known("shortcut", self.shortcut, ("A", "B"))
        for name, low, high in (
            ("groups", 1, 4096),
            ("channels_per_group", 1, 4096),
            ("classes", 1, 1000),
            ("covariates", 0, 100),
            ("covariate_degree", 1, 3),
            ("width", 2, 512),
            ("stem_stride", 1, 2),
            ("stem_kernel", 1, 11),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name}={value}: must be {low} to {high}")
        if not (math.isfinite(self.dropout) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout={self.dropout}: must be at least 0 and less than 1")
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel={self.stem_kernel}: must be odd, to keep voxel centres")
        if self.groups is not None and self.channels_per_group is not None:
            raise ValueError(
                f"groups={self.groups} and channels_per_group={self.channels_per_group}: "
                "give one of the two"
            )
        for name, norm in (("moment_shortcut", "positional"), ("group_plus_literal", "group_plus")):
            if getattr(self, name) and self.norm != norm:
                raise ValueError(f"{name} requires --norm {norm}, not {self.norm}; leave it out")
        if not self.backbone.startswith("resnet"):
            for field in fields(self):
                if field.name in RESNET_ONLY and getattr(self, field.name) != field.default:
                    raise ValueError(
                        f"{field.name}={getattr(self, field.name)}: only the resnets have it, not "
                        f"{self.backbone}; leave it out or choose a resnet"
                    )

    def as_dict(self) -> dict[str, Any]:
        """The options as a dictionary for JSON."""
        return asdict(self)

    @property
    def trunk(self) -> dict[str, Any]:
        """The options on which the features depend: all but those of what follows them."""
        return {name: value for name, value in asdict(self).items() if name not in AFTER_FEATURES}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """The inverse of :meth:`as_dict`.

        Raises
        ------
        ValueError: a key that is not a field (the closest is named), or an invalid value.
        """
        names = [field.name for field in fields(cls)]
        for key in values:
            _known("model option", key, names)
        return cls(**values)


AFTER_FEATURES = frozenset({"classes", "dropout", "covariates", "covariate_degree"})
RESNET_ONLY = frozenset({"stem_stride", "stem_kernel", "stem_pool", "shortcut", "moment_shortcut"})


@dataclass(frozen=True)
class Backbone:
    """An entry of ``BACKBONES``; ``build`` may use any norm, which ``build_model`` swaps."""

    build: Callable[[ModelConfig], Classifier]
    summary: str


def _resnet(depth: int) -> Callable[[ModelConfig], Classifier]:
    return lambda c: ResNet(
        depth,
        c.classes,
        width=c.width,
        stem_stride=c.stem_stride,
        stem_kernel=c.stem_kernel,
        stem_pool=c.stem_pool,
        shortcut=c.shortcut,
        dropout=c.dropout,
        moment_shortcut=c.moment_shortcut,
    )


def _ours(network: Callable[..., Classifier]) -> Callable[[ModelConfig], Classifier]:
    return lambda c: network(c.classes, width=c.width, dropout=c.dropout)


BACKBONES: dict[str, Backbone] = {
    "tiny": Backbone(_ours(Tiny), "four convolutions, for tests and the demo"),
    "resnet10": Backbone(_resnet(10), "3D ResNet, one basic block a stage"),
    "resnet18": Backbone(_resnet(18), "3D ResNet-18 (He 2016)"),
    "resnet34": Backbone(_resnet(34), "3D ResNet-34 (He 2016)"),
    "resnet50": Backbone(_resnet(50), "3D ResNet-50 with bottlenecks (He 2016)"),
    "sfcn": Backbone(_ours(SFCN), "simple fully convolutional network (Peng 2021)"),
    "densenet121": Backbone(_ours(monai.densenet121), "MONAI's DenseNet-121 (Huang 2017)"),
    "efficientnet-b0": Backbone(
        _ours(monai.efficientnet), "MONAI's EfficientNet-B0 (Tan & Le 2019)"
    ),
    "seresnet50": Backbone(_ours(monai.seresnet50), "MONAI's SE-ResNet-50 (Hu 2018)"),
    "anatomy": Backbone(_ours(Anatomy), "volumes of structures by a U-Net, for a slab"),
}


def build_model(config: ModelConfig, seed: int | None = None) -> Classifier:
    """Build a new network on the CPU, all of its norms those of ``config``.

    Parameters
    ----------
    config: the network's architecture.
    seed: of the initial weights; the caller's random state is then neither used nor changed. The
        weights of the convolutions do not depend on the norm.

    Raises
    ------
    ValueError: groups that do not divide a layer's channels; a norm over one channel, or weight
        standardization of filters with one weight.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model = BACKBONES[config.backbone].build(config)
    try:
        swap_norm(model, config.norm, config.groups, config.channels_per_group)
        if config.weight_standardization:
            standardize_convolutions(model)
    except ValueError as error:
        raise ValueError(f"{config.backbone} of width {config.width}: {error}") from None
    check_norms(model, config.norm, config.groups)
    if config.covariates:
        model.covariates = Covariates(config.covariates, config.classes, config.covariate_degree)
    if config.group_plus_literal:
        for layer in model.modules():
            if isinstance(layer, GroupPlusNorm):
                layer.become_literal()
    return model


def medicalnet(
    depth: int, classes: int = 2, norm: str = "group", groups: int | None = None
) -> ModelConfig:
    """The configuration of MedicalNet's ResNet checkpoints (Chen 2019, arXiv 1904.00625)."""
    return ModelConfig(
        backbone=f"resnet{depth}",
        norm=norm,
        groups=groups,
        classes=classes,
        width=64,
        stem_kernel=7,
        stem_pool=True,
        shortcut="A" if depth in {18, 34} else "B",
    )


def _known(kind: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        close = difflib.get_close_matches(str(value), names, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
        raise ValueError(f"unknown {kind} {value!r}; {remedy}")
