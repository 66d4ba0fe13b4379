"""Backbones: ResNet, SFCN, tiny and MONAI's."""
