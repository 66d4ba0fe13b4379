"""The process that answers: decoders and networks live here, so that the page outlives them.

It reads requests as lines of JSON from its standard input and writes replies as lines of JSON to
its standard output. It keeps the last few scans, so that another map needs no new placement, and
forgets them when it is told to.
"""

import ctypes
import gc
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from uncus.data.atlas import load_atlas
from uncus.data.dicom.reader import list_series
from uncus.data.errors import BadInput
from uncus.data.mni.template import load_template
from uncus.pipeline.predict import Prediction, Predictor
from uncus.pipeline.prediction import viewer_files
from uncus.pipeline.prediction.neighbours import Neighbours, features
from uncus.pipeline.prediction.output import write
from uncus.pipeline.prediction.scan_report import ScanReport
from uncus.pipeline.prediction.scan_report_pdf import pdf
from uncus.pipeline.runs import Run
from uncus.pipeline.saliency import SALIENCY

RUNS, SCANS = 2, 3  # that are kept in memory at most

Request = Mapping[str, Any]
Say = Callable[[dict[str, Any]], None]


class Clock:
    """Seconds by the wall and of processor time, the decoder's included, that each step took."""

    def __init__(self) -> None:
        self.spent: dict[str, dict[str, float]] = {}
        self.name, self.since = "", self.read()

    def read(self) -> tuple[float, float]:
        """Both clocks."""
        times = os.times()
        processor = times.user + times.system + times.children_user + times.children_system
        return time.monotonic(), processor

    def start(self, name: str) -> None:
        """The next step."""
        self.stop()
        self.name = name

    def stop(self) -> dict[str, dict[str, float]]:
        """Note the step that has ended; returns all."""
        now = self.read()
        if self.name:
            wall, processor = (round(b - a, 3) for a, b in zip(self.since, now, strict=True))
            self.spent[self.name] = {"seconds": wall, "processor": processor}
        self.name, self.since = "", now
        return self.spent


class Clerk:
    """Does what requests ask for; ``say`` sends a reply."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.clock = Clock()
        self.runs: OrderedDict[str, Predictor] = OrderedDict()
        self.scans: OrderedDict[str, Prediction] = OrderedDict()

    def __call__(self, request: Request) -> None:
        """One request; a scan that is refused gets a reply, whatever went wrong with it."""
        if request["do"] == "forget":
            self.scans.pop(request["token"], None)
            return self.tidy()
        self.clock = Clock()
        try:
            self.answer(request)
        except (ValueError, OSError, MemoryError) as error:
            self.say({"refused": reason(error, request), "series": series(request)})
        except Exception as error:  # the page names it; the next scan has nothing to do with it
            self.say({"refused": f"it cannot be read ({type(error).__name__})", "series": []})
        finally:
            self.tidy()
            self.say({"over": True, "spent": self.clock.stop()})

    def step(self, name: str) -> None:
        """Tell what is done next."""
        self.clock.start(name)
        self.say({"step": name})

    def answer(self, request: Request) -> None:
        """Predict where that has not been done, and explain where that is asked for."""
        predictor = self.predictor(request["run"])
        prediction = self.scans.get(request["token"])
        if prediction is None:
            prediction = predictor(
                Path(request["source"]),
                self.step,
                series=request["series"],
                covariates=request["known"],
            )
            prediction = replace(prediction, scan=request["name"])
            if request["keep"]:
                self.scans[request["token"]] = prediction
                while len(self.scans) > SCANS:
                    self.scans.popitem(last=False)
            nearest = self.nearest(predictor, prediction)
            self.say({"answer": prediction.as_dict(), "nearest": nearest})
        if request["method"]:
            self.step("Explaining")
            self.explain(predictor, prediction, request)

    def explain(self, predictor: Predictor, prediction: Prediction, request: Request) -> None:
        """Write a map's files: for the viewer, to take home, and the sheet."""
        folder = Path(request["folder"])
        explanation = predictor.explain(prediction, request["method"], request["class"])
        method, name = explanation.method, explanation.name
        scan = folder.parent / "scan.nii.gz"
        if not scan.exists():
            viewer_files.write_scan(scan, prediction.placed)
        folder.mkdir(exist_ok=True)
        shown = viewer_files.write_map(folder / "map.nii.gz", explanation)
        answer = write(folder, explanation)
        report = ScanReport(answer, method, name, (folder / "saliency.png").read_bytes())
        (folder / "report.html").write_text(report.html(), encoding="utf-8")
        (folder / "report.pdf").write_bytes(pdf(report))
        regions = answer.get("regions", [])
        if regions:
            places = viewer_files.centres(prediction.placed)
            regions = [{**row, "mm": places[row["region"]]} for row in regions]
        self.say({"map": {**shown, "method": method, "name": name, "regions": regions}})

    def nearest(self, predictor: Predictor, prediction: Prediction) -> list[dict[str, Any]]:
        """The training scans most like this one, where the run knows them."""
        known = Neighbours.read(predictor.run)
        if known is None:
            return []
        return known.nearest(features(torch.from_numpy(prediction.feature_maps[0])))

    def predictor(self, run: str) -> Predictor:
        """The networks of a run; loaded anew when it has changed on disk."""
        sums = Run(Path(run)).seal_path.read_text(encoding="utf-8")
        key = f"{run}\n{sums}"
        if key not in self.runs:
            self.runs[key] = Predictor(run)
            while len(self.runs) > RUNS:
                self.runs.popitem(last=False)
        self.runs.move_to_end(key)
        return self.runs[key]

    def registers(self) -> bool:
        """Whether a run that is loaded takes scans to the standard space."""
        return any(predictor.card["space"] == "mni" for predictor in self.runs.values())

    def tidy(self) -> None:
        """Give memory back to the system."""
        gc.collect()
        with suppress(OSError, AttributeError):  # only GNU's C library has it
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def reason(error: BaseException, request: Request) -> str:
    """An error's line without the paths of this machine."""
    line = " ".join(str(error).split()) or "not enough memory"
    source = request["source"]
    if isinstance(error, BadInput):
        line = line.removeprefix(f"{error.value}: ")
    line = line.replace(source, "the file").replace(Path(source).name, "the file")
    return line.replace(str(Path(source).parent), "the server")


def series(request: Request) -> list[dict[str, Any]]:
    """The series of a DICOM upload, where there are several to choose from."""
    source = Path(request["source"])
    if request["series"] or not (source.is_dir() or source.suffix in {".zip", ".dcm"}):
        return []
    try:
        found = list_series([source])
    except BadInput:
        return []
    return found if len(found) > 1 else []


def main() -> None:
    """Answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes where it does no harm

    def say(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    clerk = Clerk(say)
    try:
        for run in sys.argv[1:2]:
            clerk.predictor(run)
    except (ValueError, OSError, MemoryError) as error:
        say({"fault": " ".join(str(error).split())})
        return
    say({"methods": {key: entry.summary for key, entry in SALIENCY.items()}})
    if clerk.registers():
        load_template()  # some seconds, which nobody need wait for later
        load_atlas()
    gc.collect()
    gc.freeze()  # what is loaded now is no garbage, however often it is looked for
    for line in sys.stdin:
        clerk(json.loads(line))


if __name__ == "__main__":
    main()
