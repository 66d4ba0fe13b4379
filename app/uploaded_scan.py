"""A scan that a user uploaded, with its prediction and maps, until the session ends.

No streamlit here: a page keeps scans in its session's state, which no other session sees, and in
uncus.app.sessions, which removes those of sessions that have ended.
"""

import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uncus.app.job_queue import Job, JobQueue, QueueFullError
from uncus.app.protocol import Covariates, Request
from uncus.app.sanitize import safe_name
from uncus.app.uploads import Upload, store
from uncus.data.errors import BadInput
from uncus.pipeline.trust.reliability import DEFAULT, Setting

DOWNLOADS = {
    "report.html": "Report (HTML)",
    "report.pdf": "Report (PDF)",
    "saliency.nii.gz": "Map (NIfTI)",
    "prediction.json": "Prediction (JSON)",
    "volumes.tsv": "Volumes (TSV)",
    "dseg.nii.gz": "Segmentation (NIfTI)",
    "dseg.tsv": "Its classes (TSV)",
    "atlas.tsv": "Regions (TSV)",
}
"""Files of a map that can be downloaded, with their labels."""
PICTURE, CHARTS = "scan.png", {"light": "volumes.svg", "dark": "volumes-dark.svg"}
EXPLAINING = "Explaining"
"""The step of a job that makes a map; what is before it makes the answer."""
SCAN, ATLAS = "shades.nii.gz", "regions.nii.gz"  # no upload is stored by these names
VIEWER_FILES = {SCAN, ATLAS, "map.nii.gz", "saliency.png", PICTURE, *CHARTS.values()}
"""Files that only the page uses."""


class UploadedScan:
    """An uploaded scan.

    Parameters
    ----------
    run: folder of the run that predicts.
    uploads: the files of the scan.
    covariates: values that the user entered: ``{"age": 72.0}``.
    several: it is one of several scans, which are shown as a table.

    Attributes
    ----------
    name: the upload's name, safe to show; never used on disk.
    prediction: as in prediction.json; None before it is there.
    error: why there is no prediction; "" otherwise. ``series``: the DICOM series to choose from.
    setting: where it comes from, and how strictly it is judged.
    maps: (method, class) -> the map's facts, with its folder's name, in the order of requests.
    report_wanted: of several scans, a map and its report are wanted too.
    looked_at: the method and class of the map that was shown last.
    """

    def __init__(
        self,
        run: Path,
        uploads: Sequence[Upload],
        covariates: Covariates | None = None,
        name: str = "",
        several: bool = False,
    ) -> None:
        first = uploads[0].name
        many = f"{len(uploads)} files" if len(uploads) > 2 else safe_name(first)
        self.run, self.covariates, self.name = run, covariates or {}, name or many
        self.several, self.report_wanted = several, False
        self.token = secrets.token_urlsafe(24)
        self.folder = tempfile.TemporaryDirectory(prefix="uncus-scan-", ignore_cleanup_errors=True)
        self.prediction: dict[str, Any] | None = None
        self.error = ""
        self.series: list[dict[str, Any]] = []
        self.chosen = ""
        self.setting = DEFAULT
        self.submitted = 0
        self.maps: dict[tuple[str, str], dict[str, Any]] = {}
        self.looked_at: tuple[str, str] | None = None
        self.job: Job | None = None
        self.timings: dict[str, dict[str, float]] = {}
        try:
            self.source = store(uploads, Path(self.folder.name))
        except BadInput as error:
            self.error = f"{error.cause}; {error.remedy}"

    def submit(self, jobs: JobQueue, method: str = "", target: str = "", keep: bool = True) -> None:
        """Queue the next job, unless one is running.

        Without a ``method`` the scan is predicted and no map is made; "auto" leaves the choice to
        the worker. ``error`` is set if the queue is full.
        """
        if self.job or self.error:
            return
        job = Job(
            Request(
                token=self.token,
                run=str(self.run),
                source=str(self.source),
                name=self.name,
                series=self.chosen,
                covariates=self.covariates,
                prevalence=dict(self.setting.prevalence),
                error_level=self.setting.error_level,
                method=method,
                target=target,
                folder=str(Path(self.folder.name) / f"map-{self.submitted}"),
                keep=keep,
            )
        )
        try:
            jobs.submit(job)
        except QueueFullError as error:
            self.error = f"the queue is full: {error}"
            return
        self.job = job
        self.submitted += 1

    def update(self) -> bool:
        """Take over the prediction as soon as it is there, the rest when the job has finished.

        Returns whether a job has finished.
        """
        job = self.job
        if job is None:
            return False
        self.prediction = job.prediction or self.prediction
        if not job.finished:
            return False
        self.job = None
        if job.prediction and not self.timings:
            self.timings = {name: t for name, t in job.timings.items() if name != EXPLAINING}
        self.series = job.series
        if job.map:
            folder = Path(job.request.folder).name
            self.maps[job.map["method"], job.map["name"]] = {**job.map, "folder": folder}
        self.error = job.error
        return True

    @property
    def seconds(self) -> float:
        """The time of the answer alone, without the queue and the maps (s)."""
        return sum(step["seconds"] for step in self.timings.values())

    def cancel(self, jobs: JobQueue) -> None:
        """Cancel the current job; the page asks for it again when it is shown again."""
        if self.job:
            jobs.drop(self.token)
            self.job = None

    def choose(self, series: str) -> None:
        """Select one of several DICOM series."""
        self.chosen, self.error, self.series = series, "", []

    def again(self, covariates: Covariates, jobs: JobQueue) -> None:
        """Predict with other covariates."""
        jobs.drop(self.token)
        self.covariates, self.prediction, self.job = covariates, None, None
        self.error, self.maps, self.timings = "", {}, {}
        self.submit(jobs, "auto")

    def judge(self, setting: Setting, jobs: JobQueue) -> None:
        """Have the prediction judged by another setting; it and the maps are asked for anew."""
        self.setting, self.error, self.maps = setting, "", {}
        self.submit(jobs, "auto")

    def shown(self, name: str) -> str:
        """The URL of a picture of its first map, or of its refusal; "" if there is none."""
        folders = [f"{facts['folder']}/" for facts in self.maps.values()]
        return next((self.url(f + name) for f in ["", *folders] if self.file(f + name)), "")

    def url(self, file: str) -> str:
        """The URL of a file of this scan."""
        return f"/files/{self.token}/{file}"

    def file(self, name: str) -> Path | None:
        """A file of this scan that may be served; None for any other name."""
        folder, _, last = name.rpartition("/")
        folders = {"", *(facts["folder"] for facts in self.maps.values())}
        if folder not in folders or last not in VIEWER_FILES | DOWNLOADS.keys():
            return None
        path = Path(self.folder.name) / name
        return path if path.is_file() else None

    def close(self, jobs: JobQueue | None = None) -> None:
        """Remove all files, and have the worker forget the scan."""
        if jobs:
            jobs.drop(self.token)
        self.folder.cleanup()
