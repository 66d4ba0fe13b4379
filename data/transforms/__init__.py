"""The path of a scan as MONAI transforms, to use with MONAI's own; see docs/monai.md.

Each transform has an array form and, with the suffix ``d``, a dictionary form.
"""

from uncus.data.transforms.augmentation import Augmentation as Augmentation
from uncus.data.transforms.augmentation import BatchTransform as BatchTransform
from uncus.data.transforms.augmentation import RandAffineBatch as RandAffineBatch
from uncus.data.transforms.augmentation import RandBiasFieldBatch as RandBiasFieldBatch
from uncus.data.transforms.augmentation import RandContrastBatch as RandContrastBatch
from uncus.data.transforms.augmentation import RandFlipBatch as RandFlipBatch
from uncus.data.transforms.augmentation import RandNoiseBatch as RandNoiseBatch
from uncus.data.transforms.checks import CheckImage as CheckImage
from uncus.data.transforms.checks import CheckImaged as CheckImaged
from uncus.data.transforms.checks import CheckQuality as CheckQuality
from uncus.data.transforms.checks import CheckQualityd as CheckQualityd
from uncus.data.transforms.normalization import NormalizeBrain as NormalizeBrain
from uncus.data.transforms.normalization import NormalizeBraind as NormalizeBraind
from uncus.data.transforms.path import ScanPipeline as ScanPipeline
from uncus.data.transforms.path import scan_pipeline as scan_pipeline
from uncus.data.transforms.placing import MaskBrain as MaskBrain
from uncus.data.transforms.placing import MaskBraind as MaskBraind
from uncus.data.transforms.placing import PlaceInMNI as PlaceInMNI
from uncus.data.transforms.placing import PlaceInMNId as PlaceInMNId
from uncus.data.transforms.reading import ReadScan as ReadScan
from uncus.data.transforms.reading import ReadScand as ReadScand
from uncus.data.transforms.reading import ScanReader as ScanReader
from uncus.data.transforms.reading import Source as Source
from uncus.data.transforms.resampling import ToGrid as ToGrid
from uncus.data.transforms.resampling import ToGridd as ToGridd
