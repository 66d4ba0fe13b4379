"""Whether DICOM files are of one patient, who is never named in messages."""

from collections.abc import Sequence
from typing import NamedTuple

from uncus.data.errors import BadInput


class Patient(NamedTuple):
    """The patient of a file: PatientID, PatientName and PatientBirthDate, "" if absent."""

    label: str
    name: str
    birth: str


def check_one_patient(patients: Sequence[Patient], source: str) -> list[str]:
    """Warn of files whose patient is written in another way; ``patients`` has one item per file.

    One PatientID is one patient, whatever the names. Files without a PatientID belong to the
    others if neither name nor date of birth contradicts them.

    Raises
    ------
    BadInput: the files are of several patients.
    """
    labels = {patient.label.casefold() for patient in patients} - {""}
    without = [patient for patient in patients if not patient.label]
    names = {same_name(patient.name) for patient in patients} - {""}
    births = {patient.birth for patient in patients} - {""}
    several = len(labels)
    if several < 2 and without:
        several = max(len(names), len(births))
    if several > 1:
        cause = f"contains images of {several} patients"
        raise BadInput(source, cause, "give one patient's files at a time")
    warnings = []
    if labels and without:
        count = f"{len(without)} of {len(patients)} files"
        warnings.append(f"{count} have no PatientID: taken for the same patient.")
    if len({patient.name for patient in patients} - {""}) > 1:
        warnings.append("The patient's name is not written alike in all files.")
    return warnings


def same_name(name: str) -> str:
    """A PatientName (DICOM PS3.5, 6.2.1.2) for comparison.

    ``A^B^^``, ``a^b`` and ``A B`` are equal; only the first representation counts.
    """
    return " ".join(name.split("=")[0].casefold().replace("^", " ").split())
