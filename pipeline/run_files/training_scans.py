"""The scans that a run was trained on, as salted hashes: each is recognized, none is named."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uncus.data import files
from uncus.data.errors import BadInput


@dataclass(frozen=True)
class TrainingScans:
    """``voxel_hash in scans`` tells whether a scan is one of them.

    Attributes
    ----------
    salt: random, so that tables of the same scans in two runs cannot be joined; "" for none.
    hashes: SHA-256 of the salt and each scan's voxel hash.
    """

    salt: str
    hashes: frozenset[str]

    @classmethod
    def of(cls, voxel_hashes: Iterable[str]) -> "TrainingScans":
        """Hash them with a new salt."""
        salt = secrets.token_hex(16)
        return cls(salt, frozenset(salted(salt, one) for one in voxel_hashes))

    @classmethod
    def read(cls, path: Path) -> "TrainingScans":
        """The inverse of :meth:`as_dict`; raises BadInput for any other content."""
        match files.read_json(path):
            case {"salt": str(salt), "hashes": list(hashes)}:
                return cls(salt, frozenset(map(str, hashes)))
        raise BadInput(path, "has no salt and hashes", "restore it, or delete it")

    def as_dict(self) -> dict[str, Any]:
        """The hashes in an order that tells nothing."""
        return {"salt": self.salt, "hashes": sorted(self.hashes)}

    def __contains__(self, voxel_hash: object) -> bool:
        return salted(self.salt, str(voxel_hash)) in self.hashes


def salted(salt: str, voxel_hash: str) -> str:
    """SHA-256 of both; without a salt, as in early versions, the voxel hash itself."""
    return hashlib.sha256((salt + voxel_hash).encode()).hexdigest() if salt else voxel_hash
