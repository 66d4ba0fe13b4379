"""What is known of a scan's scanner: by its DICOM header, its sidecar, or its BIDS tables."""

from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import FileDataset

from tests.conftest import AFFINE, small_brain
from tests.dicom_files import save, series
from uncus.data.imageio.volume import read_volume
from uncus.pipeline.prediction.scanner_fields import scanner_fields


def test_a_sidecar_and_a_table_are_read(tmp_path: Path) -> None:
    scan = tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(small_brain(0, ill=False), AFFINE), scan)
    volume = read_volume(scan)
    assert scanner_fields(scan, volume) == {}
    sidecar = scan.with_name("sub-1_T1w.json")
    sidecar.write_text('{"MagneticFieldStrength": 3, "EchoTime": 0.003}')
    assert scanner_fields(scan, volume) == {"field strength": "3"}
    (tmp_path / "participants.tsv").write_text("participant_id\tvendor\nsub-1\tPhilips\n")
    assert scanner_fields(scan, volume) == {"field strength": "3", "manufacturer": "philips"}
    for broken in ("{", "[1]", "null", '"text"'):
        sidecar.write_text(broken)
        assert scanner_fields(scan, volume) == {"manufacturer": "philips"}


def test_a_header_is_read(tmp_path: Path) -> None:
    def edit(data: FileDataset, index: int) -> None:
        data.MagneticFieldStrength, data.Manufacturer = "1.494", "GE MEDICAL SYSTEMS"

    path = save(tmp_path / "dicom", series(small_brain(0, False).astype(np.int16), AFFINE, edit))
    known = scanner_fields(path, read_volume(path))
    assert known == {"field strength": "1.5", "manufacturer": "ge"}
