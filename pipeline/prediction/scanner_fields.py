"""What is known of the scanner of a new scan."""

from contextlib import suppress
from pathlib import Path

from uncus.data.cohorts.bids import bids_fields
from uncus.data.errors import BadInput
from uncus.data.files import read_json
from uncus.data.imageio.volume import Volume
from uncus.pipeline.trust.domain import scanner_of


def scanner_fields(path: Path, volume: Volume) -> dict[str, str]:
    """The scanner as given by a scan's header, sidecar and BIDS tables, as far as readable."""
    fields: dict[str, str] = dict(volume.demographics)
    sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    with suppress(BadInput):
        fields |= bids_fields(path)
    with suppress(BadInput):
        content = read_json(sidecar) if sidecar != path and sidecar.is_file() else {}
        fields |= {n: str(v) for n, v in content.items()} if isinstance(content, dict) else {}
    return scanner_of(fields)
