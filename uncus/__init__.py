"""Alzheimer's disease classification from 3D T1-weighted MRI at tiny batch sizes."""

__version__ = "0.1.0"
