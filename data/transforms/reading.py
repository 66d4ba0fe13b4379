"""Read scans with the limits and checks of :func:`uncus.data.imageio.volume.read_volume`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from uncus.data.dicom import reader
from uncus.data.imageio.gzip_stream import RawFile
from uncus.data.imageio.volume import SUFFIXES, Limits, Volume, read_scan, read_volume
from uncus.data.imageio.writer import native_array
from uncus.data.transforms.dictionary import Invertible, InvertibleDictionaryTransform
from uncus.data.transforms.scan_tensor import to_tensor, to_volume, voxels, with_voxels


@dataclass(frozen=True)
class Source:
    """What a scan is read from.

    Parameters
    ----------
    paths: its file or folder, or the DICOM files of its series.
    series: selects one of several DICOM series.
    files: its files if already loaded, see :func:`uncus.data.imageio.volume.load_files`.
    """

    paths: tuple[Path, ...]
    series: str = ""
    files: tuple[RawFile, ...] = ()


class ReadScan(Invertible):
    """Read a NIfTI, Analyze, MGZ or DICOM scan as a MetaTensor float32 [1, X, Y, Z] in RAS+.

    The inverse brings an image on the scan's voxels into the voxel order and affine of its file.

    Parameters
    ----------
    series: selects one of several DICOM series.
    limits: on what is read.

    Raises
    ------
    BadInput: the scan cannot be read.
    """

    def __init__(self, series: str = "", limits: Limits | None = None) -> None:
        self.series, self.limits = series, limits or Limits()

    def __call__(self, source: Source | Path | str | Sequence[Path | str]) -> MetaTensor:
        """Read the scan at a path, in several DICOM files, or at a :class:`Source`."""
        return self.record(to_tensor(self.read(source)))

    def read(self, source: Source | Path | str | Sequence[Path | str]) -> Volume:
        """The scan as a Volume."""
        if not isinstance(source, Source):
            paths = (source,) if isinstance(source, Path | str) else source
            source = Source(tuple(map(Path, paths)))
        series = source.series or self.series
        if source.files:
            return read_volume(source.paths[0], self.limits, series, source.files)
        return read_scan(source.paths, self.limits, series)

    def inverse(self, image: MetaTensor) -> MetaTensor:
        """``image`` [1, X, Y, Z] in the voxel order of the scan's file."""
        volume = to_volume(image)
        stored = native_array(volume, volume.array)
        result = with_voxels(image, stored, volume.native.affine)
        self.undo(result)
        return result


class ReadScand(InvertibleDictionaryTransform):
    """The dictionary form of :class:`ReadScan`; the data hold paths."""

    form = ReadScan


class ScanReader(ImageReader):
    """The reader of :class:`ReadScan` for MONAI's LoadImage: ``LoadImage(reader=ScanReader())``.

    The file is opened by ``get_data``, not by ``read``: what ``read`` raises, LoadImage ignores,
    and it tries its other readers, which have no limits.

    Parameters
    ----------
    series, limits: those of :class:`ReadScan`.
    """

    def __init__(self, series: str = "", limits: Limits | None = None) -> None:
        super().__init__()
        self.scan = ReadScan(series, limits)

    def verify_suffix(self, filename: Any) -> bool:
        """Whether the names are those of an image or of DICOM."""
        names = (filename,) if isinstance(filename, Path | str) else filename
        paths = [Path(name) for name in names]
        return all(p.name.lower().endswith(SUFFIXES) or reader.is_dicom(p) for p in paths)

    def read(self, data: Any, **options: Any) -> Source:
        """What :meth:`get_data` reads."""
        names = (data,) if isinstance(data, Path | str) else data
        return Source(tuple(Path(name) for name in names))

    def get_data(self, img: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """The voxels [X, Y, Z] in RAS+ and the metadata of :class:`ReadScan`.

        Raises
        ------
        BadInput: the scan cannot be read.
        """
        image = to_tensor(self.scan.read(img))
        return voxels(image), {**image.meta, "original_channel_dim": float("nan")}
