"""The networks: ResNet, SFCN, tiny and MONAI's."""
