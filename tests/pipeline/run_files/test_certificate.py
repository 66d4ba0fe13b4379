"""The certificate: folds without names, which the holder of the salt and the data can rebuild."""

from pathlib import Path

import pytest

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.run_files.certificate import Certificate
from uncus.pipeline.runs import Run


def test_it_states_the_hashes_and_rebuilds_the_folds(run: Path) -> None:
    here = Run(run)
    certificate = Certificate.read(here.certificate_path)
    assert certificate.splits == files.sha256(here.splits_path)
    assert certificate.cohort == here.card["cohort_fingerprint"]
    sums = here.verify()
    assert all(sums[name] == digest for name, digest in certificate.weights.items())
    subjects = [*here.splits().frame["participant_id"], "sub-new"]
    rebuilt = certificate.rebuild(subjects, run)
    assert rebuilt.frame.equals(here.splits().frame)
    with pytest.raises(BadInput, match="11 of the 12 subjects"):
        certificate.rebuild(subjects[1:], run)


def test_the_card_has_neither_names_nor_the_salt(run: Path) -> None:
    here = Run(run)
    certificate = Certificate.read(here.certificate_path)
    assert here.card["certificate"] == certificate.public()
    text = here.card_path.read_text()
    assert certificate.salt not in text
    assert not [name for name in here.splits().frame["participant_id"] if name in text]
    again = Certificate.of(certificate.cohort, here.splits_path, certificate.weights)
    assert not set(again.subjects) & set(certificate.subjects)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    path.write_text('{"salt": "x"}')
    with pytest.raises(BadInput, match="not a certificate"):
        Certificate.read(path)
