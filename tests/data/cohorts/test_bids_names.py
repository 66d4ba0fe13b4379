"""Labels in file and folder names."""

import pytest

from uncus.data.cohorts.bids_names import entity, number_alone, pair_labels, parts


@pytest.mark.parametrize(
    ("path", "subject", "session"),
    [
        ("sub-01_T1w.nii.gz", "01", None),
        ("ses-1/sub-2_ses-3_run-1_T1w.nii", "2", "3"),
        ("sub-002_S_0295_ses-1_T1w.nii.gz", "002_S_0295", "1"),
        ("sub-002_S_0295_T1w.nii.gz", "002_S_0295", None),
        ("sub-002_S_0295.nii.gz", "002_S_0295", None),
        ("sub-002_S_0295", "002_S_0295", None),
        ("sub-002_S_0295.zip", "002_S_0295", None),
        ("sub-002_S_0295/ses-2020_01_31/anat/x.nii", "002_S_0295", "2020_01_31"),
        ("sub-OAS1_0001_MR1_T1.mgz", "OAS1_0001_MR1", None),
        ("sub-AIBL_ann_T1w.nii", "AIBL_ann", None),
        ("sub-1.2_T1w.nii", "1.2", None),
        ("sub-1.2/ses-0.5/x", "1.2", "0.5"),
        ("a\\sub-7_S_1_FLAIR_brain.nii", "7_S_1", None),
        ("sub-01_brain.nii.gz", "01", None),
        ("sub-01_T1w_brain.nii.gz", "01", None),
        ("sub-01_T1w_2.nii", "01", None),
        ("002_S_0295.nii", None, None),
        ("insub-1/x.nii", None, None),
    ],
)
def test_the_whole_value_of_an_entity_counts(
    path: str, subject: str | None, session: str | None
) -> None:
    assert (entity("sub-", path), entity("ses-", path)) == (subject, session)


@pytest.mark.parametrize(
    ("given", "wanted", "pairs"),
    [
        ("1 2", "01 02", "1=01 2=02"),
        ("m0 m006", "M000 M06", "m0=M000 m006=M06"),
        ("6 12", "M006 M012", "6=M006 12=M012"),
        ("M6 M12", "6 12", "M6=6 M12=12"),
        ("sub-1_ses-M06", "M006", "sub-1_ses-M06=M006"),
        ("1 01 2", "001 2", "2=2"),  # 1 or 01?
        ("1", "01 001", ""),
        ("M12", "Y12", ""),
        ("12", "M12 Y12", ""),
        ("bl", "M00", ""),
    ],
)
def test_labels_are_paired_where_nothing_else_could_be_meant(
    given: str, wanted: str, pairs: str
) -> None:
    expected = dict(pair.split("=") for pair in pairs.split())
    assert pair_labels(given.split(), wanted.split(), [parts, number_alone]) == expected
