"""The certificate of a run: hashes of its cohort, folds and weights, and its folds without names.

Subjects are listed as salted hashes of their ids. The model card has the hashes; the salt is in
``certificate.json`` of the run's folder alone. Who holds both and the same data can rebuild the
folds; who holds the model alone cannot even test whether a subject is among them.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from uncus.data import files
from uncus.data.design.splits import PARTS, Splits
from uncus.data.errors import BadInput
from uncus.data.json_schema import HASH, MAX_SCANS, TEXT, Schema, array, fault, mapping, record

TOKEN: Schema = {"type": "string", "pattern": r"\A[0-9a-f]{32}\Z"}
PART: Schema = {"enum": list(PARTS)}
SUBJECTS: Schema = {
    "type": "object",
    "propertyNames": TOKEN,
    "additionalProperties": array(PART, 1000),
    "maxProperties": MAX_SCANS,
}
CERTIFICATE = record(cohort=TEXT, splits=HASH, weights=mapping(HASH), subjects=SUBJECTS)
RESTORE = "copy it again from the run"


@dataclass(frozen=True)
class Certificate:
    """What a run was made from.

    Attributes
    ----------
    salt: random, 32 hexadecimal digits.
    cohort: fingerprint of the prepared cohort.
    splits: SHA-256 of the run's splits.tsv.
    weights: file -> its SHA-256.
    subjects: salted hash of a subject -> its part in each fold.
    """

    salt: str
    cohort: str
    splits: str
    weights: Mapping[str, str]
    subjects: Mapping[str, Sequence[str]]

    @classmethod
    def of(
        cls, cohort: str, splits: Path, weights: Mapping[str, str], salt: str = ""
    ) -> "Certificate":
        """Of a cohort's fingerprint, the file of splits, and the hashes of weights."""
        salt = salt or secrets.token_hex(16)
        frame = Splits.load(splits).frame
        parts = {
            token(salt, str(name)): list(map(str, cells))
            for name, *cells in frame.itertuples(index=False, name=None)
        }
        return cls(salt, cohort, files.sha256(splits), weights, dict(sorted(parts.items())))

    @classmethod
    def read(cls, path: Path) -> "Certificate":
        """The inverse of :meth:`as_dict`; raises BadInput for any other content."""
        value = files.read_json(path)
        if wrong := fault(value, record(**CERTIFICATE["properties"], salt=TOKEN)):
            raise BadInput(path, f"is not a certificate with its salt: {wrong}", RESTORE)
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})

    def public(self) -> dict[str, Any]:
        """For the model card: all but the salt."""
        return {
            "cohort": self.cohort,
            "splits": self.splits,
            "weights": dict(self.weights),
            "subjects": dict(self.subjects),
        }

    def as_dict(self) -> dict[str, Any]:
        """For certificate.json."""
        return {"salt": self.salt, **self.public()}

    def rebuild(self, subjects: Iterable[str], source: Path) -> Splits:
        """The folds of another holder's subjects ("sub-S"); ``source`` is named in errors.

        Raises
        ------
        BadInput: a subject of the certificate is missing; others are left out.
        """
        found = {name: self.subjects.get(token(self.salt, name)) for name in subjects}
        rows = [[name, *parts] for name, parts in sorted(found.items()) if parts]
        if len(rows) < len(self.subjects):
            cause = f"has {len(rows)} of the {len(self.subjects)} subjects of the certificate"
            raise BadInput(source, cause, "name the whole cohort, with the same participant_ids")
        folds = len(rows[0]) - 1 if rows else 0
        columns = ["participant_id", *(f"fold-{k}" for k in range(folds))]
        return Splits(pd.DataFrame(rows, columns=columns, dtype=object))


def token(salt: str, subject: str) -> str:
    """The salted hash of a subject's id, 32 hexadecimal digits (HMAC-SHA256)."""
    return hmac.new(salt.encode(), subject.encode(), hashlib.sha256).hexdigest()[:32]
