"""MONAI's networks as Classifiers, at any width. ``build_model`` replaces their norms.

Only the feature extractor is used, with the head of `Classifier`, so that features and head are
separate and no weight is unused. MONAI is imported when a network is built.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from uncus.models.base import Classifier
from uncus.models.norms.norm_act import chained


class HalvingPool(nn.Module):
    """Average pooling by 2 that rounds up, down to axes of one voxel (torch's rejects those)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool3d(x, [min(2, size) for size in x.shape[2:]], stride=2, ceil_mode=True)


class MonaiClassifier(Classifier):
    """A feature extractor of MONAI with the pooling, dropout and head of `Classifier`."""

    def __init__(
        self,
        body: nn.Module,
        channels: int,
        classes: int,
        *,
        stride: int,
        offset: float,
        dropout: float,
    ) -> None:
        super().__init__(channels, classes, stride=stride, offset=offset, dropout=dropout)
        self.body = chained(body)
        # Pooling that rounds down leaves no voxel of a slab's short axis.
        for parent in list(self.body.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.MaxPool3d) and not layer.padding:
                    layer.ceil_mode = True
                elif isinstance(layer, nn.AvgPool3d):
                    setattr(parent, name, HalvingPool())

    def features(self, x: Tensor) -> Tensor:
        feature_map: Tensor = self.body(x)
        return feature_map


def densenet121(classes: int, *, width: int, dropout: float) -> MonaiClassifier:
    """DenseNet-121 (Huang 2017): ``width`` initial channels (64 in the paper), growth half that."""
    from monai.networks.nets.densenet import DenseNet

    net: Any = DenseNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        init_features=width,
        growth_rate=max(1, width // 2),
    )
    channels = net.class_layers.out.in_features
    body = nn.Sequential(net.features, nn.ReLU())
    # three average poolings by 2, at strides 4, 8 and 16, each shift centres by half a stride
    return MonaiClassifier(body, channels, classes, stride=32, offset=14.0, dropout=dropout)


def efficientnet(classes: int, *, width: int, dropout: float) -> MonaiClassifier:
    """EfficientNet-B0 (Tan & Le 2019): ``width`` channels in the stem (the paper's 32).

    Its norms keep their eps of 1e-3 when they are swapped.
    """
    from monai.networks.nets.efficientnet import EfficientNet

    net: Any = EfficientNet(
        blocks_args_str=[
            "r1_k3_s11_e1_i32_o16_se0.25",
            "r2_k3_s22_e6_i16_o24_se0.25",
            "r2_k5_s22_e6_i24_o40_se0.25",
            "r3_k3_s22_e6_i40_o80_se0.25",
            "r3_k5_s11_e6_i80_o112_se0.25",
            "r4_k5_s22_e6_i112_o192_se0.25",
            "r1_k3_s11_e6_i192_o320_se0.25",
        ],
        spatial_dims=3,
        in_channels=1,
        num_classes=classes,
        width_coefficient=width / 32,
    )
    net.set_swish(False)  # the memory-efficient one cannot be exported
    # Its padding is for one image size and one-sided at stride 2, too little for a slab.
    for parent in list(net.modules()):
        for name, layer in list(parent.named_children()):
            if name.endswith("_padding"):
                setattr(parent, name, nn.Identity())
            elif isinstance(layer, nn.Conv3d):
                layer.padding = tuple(size // 2 for size in layer.kernel_size)
    body = nn.Sequential(
        net._conv_stem,
        net._bn0,
        nn.SiLU(),
        net._blocks,
        net._conv_head,
        net._bn1,
        nn.SiLU(),
    )
    return MonaiClassifier(
        body, net._fc.in_features, classes, stride=32, offset=0.0, dropout=dropout
    )


def seresnet50(classes: int, *, width: int, dropout: float) -> MonaiClassifier:
    """SE-ResNet-50 (Hu 2018): stages of ``width`` (the paper's 64), 2, 4 and 8 times."""
    from monai.networks.nets.senet import SENet

    class Narrow(SENet):
        """MONAI fixes the channels of the stages; scale them."""

        def _make_layer(self, block: Any, planes: int, *args: Any, **options: Any) -> Any:
            return super()._make_layer(block, planes * width // 64, *args, **options)

    net: Any = Narrow(
        spatial_dims=3,
        in_channels=1,
        block="se_resnet_bottleneck",
        layers=(3, 4, 6, 3),
        groups=1,
        reduction=16,
        dropout_prob=None,
        inplanes=width,
        downsample_kernel_size=1,
        input_3x3=False,
        num_classes=classes,
    )
    body = nn.Sequential(net.layer0, net.layer1, net.layer2, net.layer3, net.layer4)
    # a pooling of 3 without padding, at stride 2, shifts the centre by 1 voxel of stride 2
    return MonaiClassifier(body, 8 * width * 4, classes, stride=32, offset=2.0, dropout=dropout)
