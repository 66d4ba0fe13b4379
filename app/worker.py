"""The worker process of the page: decoders and networks run here, apart from the server.

It reads requests from its standard input and writes replies to its standard output, in the format
of uncus.app.protocol. It keeps the last few predictions, so that another map needs no new
registration, until a request drops them.
"""

import ctypes
import gc
import os
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from uncus.app.protocol import Reply, Request
from uncus.app.uploaded_scan import ATLAS, EXPLAINING, SCAN
from uncus.data.atlas import load_atlas
from uncus.data.dicom.reader import list_series
from uncus.data.errors import BadInput
from uncus.data.mni.template import load_template
from uncus.pipeline.model_card.summary import summary
from uncus.pipeline.predict import Prediction, Predictor
from uncus.pipeline.prediction import viewer_files
from uncus.pipeline.prediction.output import PICTURE, write, write_charts, write_picture
from uncus.pipeline.prediction.results import Explanation, Refused
from uncus.pipeline.prediction.scan_report import ScanReport
from uncus.pipeline.prediction.scan_report_pdf import pdf
from uncus.pipeline.prediction.score_axis import axes_of
from uncus.pipeline.rendering.growth_chart import growth_charts
from uncus.pipeline.runs import Run
from uncus.pipeline.saliency import SALIENCY
from uncus.pipeline.trust.reliability import Setting

MAX_RUNS, MAX_SCANS = 2, 3  # in memory


class Clock:
    """Wall and processor time (s) of each step, with the decoder's process."""

    def __init__(self) -> None:
        self.timings: dict[str, dict[str, float]] = {}
        self.name, self.since = "", self.read()

    def read(self) -> tuple[float, float]:
        """Both clocks (s)."""
        times = os.times()
        processor = times.user + times.system + times.children_user + times.children_system
        return time.monotonic(), processor

    def start(self, name: str) -> None:
        """Begin the next step."""
        self.stop()
        self.name = name

    def stop(self) -> dict[str, dict[str, float]]:
        """End the current step; returns the times of all steps."""
        now = self.read()
        if self.name:
            wall, processor = (round(b - a, 3) for a, b in zip(self.since, now, strict=True))
            self.timings[self.name] = {"seconds": wall, "processor": processor}
        self.name, self.since = "", now
        return self.timings


class Worker:
    """Answers requests; ``send`` sends a reply."""

    def __init__(self, send: Callable[[Reply], None]) -> None:
        self.send = send
        self.clock = Clock()
        self.runs: OrderedDict[str, Predictor] = OrderedDict()
        self.predictions: OrderedDict[str, Prediction] = OrderedDict()
        self.last: tuple[str, Explanation] | None = None

    def __call__(self, request: Request) -> None:
        """One request; any failure is reported in a reply."""
        if request.forget:
            self.predictions.pop(request.token, None)
            if self.last and self.last[0] == request.token:
                self.last = None
            return release_memory()
        self.clock = Clock()
        # Decoded voxels are removed with the scan's folder, even if this process is killed.
        before, tempfile.tempdir = tempfile.tempdir, str(Path(request.source).parent)
        try:
            self.predict(request)
        except (ValueError, OSError, MemoryError) as error:
            self.send(Reply(error=reason(error, request), series=series(request)))
        except Exception as error:  # must not affect the next scan
            self.send(Reply(error=f"it cannot be read ({type(error).__name__})", series=[]))
        finally:
            tempfile.tempdir = before
            release_memory()
            self.send(Reply(timings=self.clock.stop()))

    def step(self, name: str) -> None:
        """Report the next step."""
        self.clock.start(name)
        self.send(Reply(step=name))

    def predict(self, request: Request) -> None:
        """Predict, unless the prediction is in memory, and explain if a method is given."""
        predictor = self.predictor(request.run)
        setting = Setting(request.prevalence, request.error_level)
        prediction = self.predictions.get(request.token)
        if prediction is None:
            prediction = self.predicted(predictor, request)
            prediction = replace(prediction, scan=request.name)
            if request.keep:
                self.predictions[request.token] = prediction
                while len(self.predictions) > MAX_SCANS:
                    self.predictions.popitem(last=False)
        prediction = predictor.again(prediction, setting)
        folder = Path(request.folder).parent
        if request.method and folder.is_dir():
            write_charts(folder, prediction)  # shown with the answer
        self.send(Reply(prediction=prediction.as_dict()))
        if request.method:
            self.step(EXPLAINING)
            self.explain(predictor, prediction, request)

    def predicted(self, predictor: Predictor, request: Request) -> Prediction:
        """The prediction; the picture of a refused scan is left in its folder."""
        try:
            return predictor(
                Path(request.source),
                self.step,
                series=request.series,
                covariates=request.covariates,
            )
        except Refused as refused:
            folder, error = Path(request.folder).parent, refused.without_scan()
            if request.method and folder.is_dir():
                title = f"{request.name}: {reason(error, request)}"
                with suppress(OSError):
                    write_picture(folder, refused.volume, refused.segmentation, title)
        raise error

    def explain(self, predictor: Predictor, prediction: Prediction, request: Request) -> None:
        """Write a map's files: for the viewer, for download, and the report.

        They are moved to the scan's folder at the end, which is not made again where the user has
        left and it is gone.
        """
        target, placed = Path(request.folder), prediction.placed
        with tempfile.TemporaryDirectory(prefix="uncus-map-", ignore_cleanup_errors=True) as own:
            for name, write_one in (
                (SCAN, viewer_files.write_scan),  # first, to be looked at until the map is made
                *(((ATLAS, viewer_files.write_atlas),) if placed.quality else ()),
            ):
                if not (target.parent / name).exists():
                    write_one(Path(own) / name, placed)
                    (Path(own) / name).rename(target.parent / name)
            explanation = self.explanation(predictor, prediction, request)
            method, name = explanation.method, explanation.name
            folder = Path(own) / target.name
            folder.mkdir()
            facts = viewer_files.write_map(folder / "map.nii.gz", explanation)
            answer = write(folder, explanation)
            volumes = prediction.volumes
            report = ScanReport(
                answer,
                method,
                name,
                (folder / "saliency.png").read_bytes(),
                (folder / PICTURE).read_bytes(),
                growth_charts(prediction.segmentation, volumes.get("age"), volumes.get("sex", "")),
                axes_of(answer, predictor.run),
                summary(predictor.run),
            )
            (folder / "report.html").write_text(report.html(), encoding="utf-8")
            (folder / "report.pdf").write_bytes(pdf(report))
            folder.rename(target)
        regions = answer.get("regions", [])
        if regions:
            regions = viewer_files.region_rows(regions, placed)
        self.send(Reply(map={**facts, "method": method, "name": name, "regions": regions}))

    def explanation(
        self, predictor: Predictor, prediction: Prediction, request: Request
    ) -> Explanation:
        """The map that is asked for; the last one's opposite, if it is that."""
        name = request.target or prediction.most_probable
        if self.last and self.last[0] == request.token and self.last[1].method == request.method:
            opposite = self.last[1].opposite()
            if opposite and opposite.name == name:
                return replace(opposite, prediction=prediction)
        explanation = predictor.explain(prediction, request.method, request.target)
        if request.keep:
            self.last = request.token, replace(explanation)  # without what is computed from it
        return explanation

    def predictor(self, run: str) -> Predictor:
        """The networks of a run; loaded again if it has changed on disk."""
        sums = Run(Path(run)).seal_path.read_text(encoding="utf-8")
        key = f"{run}\n{sums}"
        if key not in self.runs:
            self.runs[key] = Predictor(run)
            while len(self.runs) > MAX_RUNS:
                self.runs.popitem(last=False)
        self.runs.move_to_end(key)
        return self.runs[key]

    def registers(self) -> bool:
        """Whether a loaded run registers scans."""
        return any(predictor.card["space"] == "mni" for predictor in self.runs.values())


def release_memory() -> None:
    """Return free memory to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # GNU's C library only
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def reason(error: BaseException, request: Request) -> str:
    """An error's message without paths of the server."""
    line = " ".join(str(error).split()) or "not enough memory"
    source = request.source
    if isinstance(error, BadInput):
        line = line.removeprefix(f"{error.value}: ")
    line = line.replace(source, "the file").replace(Path(source).name, "the file")
    return line.replace(str(Path(source).parent), "the server")


def series(request: Request) -> list[dict[str, Any]]:
    """The series of a DICOM upload with several series."""
    source = Path(request.source)
    if request.series or not (source.is_dir() or source.suffix in {".zip", ".dcm"}):
        return []
    try:
        listed = list_series([source])
    except BadInput:
        return []
    return listed if len(listed) > 1 else []


def main() -> None:
    """Answer requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the replies

    def send(reply: Reply) -> None:
        replies.write(reply.to_line())
        replies.flush()

    worker = Worker(send)
    try:
        for run in sys.argv[1:2]:
            worker.predictor(run)
    except (ValueError, OSError, MemoryError) as error:
        send(Reply(failure=" ".join(str(error).split())))
        return
    methods = {key: entry.summary for key, entry in SALIENCY.items()}
    send(Reply(methods=methods, person=any(one.segment for one in worker.runs.values())))
    if worker.registers():
        load_template()  # takes some seconds
        load_atlas()
    gc.collect()
    gc.freeze()  # what is loaded now stays
    for line in sys.stdin:
        worker(Request.from_line(line))


if __name__ == "__main__":
    main()
