"""The page and the figure of ``uncus demo``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from matplotlib.figure import Figure

from uncus import NOTICE
from uncus.data import files
from uncus.data.tables import read_table
from uncus.pipeline.evaluation import plots
from uncus.pipeline.phantom import scan_paths
from uncus.pipeline.prediction.output import scan_name
from uncus.pipeline.rendering.html import card, document, image, notice, table, text
from uncus.pipeline.rendering.numbers import estimate_text, interval_text, number
from uncus.pipeline.rendering.slices import OUTLINE, PLANES, View, draw_plane, save_png, widths
from uncus.pipeline.runs import Run

CSS = """
img { display:block; width:100%; height:auto; border-radius:4px }
.bar { display:flex; height:26px; max-width:520px; border-radius:4px; overflow:hidden;
  background:#d7e3e8; margin:4px 0 12px }
.bar b { background:var(--model); color:#fff; font-size:13px; line-height:26px; padding-left:8px;
  white-space:nowrap }
"""


@dataclass(frozen=True)
class DemoFolder:
    """The files in the demo's folder."""

    path: Path

    @property
    def run(self) -> Run:
        """The demo's run."""
        return Run(self.path / "run")

    def new_scans(self) -> dict[str, tuple[Path, Path]]:
        """Diagnosis of each new scan -> its file and its atrophy mask."""
        table = read_table(self.path / "new" / "participants.tsv")
        rows = zip(table["diagnosis"], table["participant_id"], strict=True)
        return {diagnosis: scan_paths(self.path / "new", name) for diagnosis, name in rows}

    def prediction(self, scan: Path) -> Path:
        """The folder with the prediction for a new scan."""
        return self.path / "predictions" / scan_name(scan)


def write(demo: DemoFolder, results: dict[str, Any]) -> None:
    """Write index.html, which is self-contained, and demo.png into the demo's folder."""
    save_png(figure(demo, results), demo.path / "demo.png", dpi=110, colours=0)
    files.write_text(demo.path / "index.html", page(demo, results))


def figure(demo: DemoFolder, results: dict[str, Any]) -> Figure:
    """The new patient's scan, then its saliency and true atrophy, in three planes each."""
    scan, view = patient(demo)
    drawn = Figure(figsize=(9.2, 6.3), facecolor="black", layout="constrained")
    panels = drawn.subplots(2, 3, gridspec_kw={"width_ratios": widths(view)})
    heat: Any = None
    for row, shown in zip(panels, (scan, view), strict=True):
        for panel, (_, axis) in zip(row, PLANES, strict=True):
            heat = draw_plane(panel, shown, axis) or heat
    bar = drawn.colorbar(heat, ax=panels, fraction=0.02, pad=0.01)
    bar.set_ticks([])
    bar.set_label("evidence for AD  →", color="white", fontsize=9)
    drawn.suptitle(headline(results), color="white", fontsize=11)
    drawn.supxlabel(
        "Top: a synthetic scan that was not used in training. Bottom: its saliency for AD (heat) "
        f"and the true atrophy (blue outline).\n{NOTICE}",
        color="0.75",
        fontsize=8,
    )
    return drawn


def headline(results: dict[str, Any]) -> str:
    """The demo's result in one line."""
    lead, saliency = results["headline"], results["saliency"]
    return (
        f"P(AD) = {results['new']['AD']['AD']:.2f}      {lead['name']} of the cohort "
        f"{number(lead['value'])} ({interval_text(lead, 2)})      saliency in the true atrophy: "
        f"{saliency['times_brain']:.1f} x uniform"
    )


def patient(demo: DemoFolder) -> tuple[View, View]:
    """The new patient's scan, alone and with its saliency and true atrophy (RAS+)."""
    path, truth = demo.new_scans()["AD"]
    image, heat, mask = (
        nibabel.as_closest_canonical(nibabel.load(p))
        for p in (path, demo.prediction(path) / "saliency.nii.gz", truth)
    )
    # Positive evidence only; the figure in predictions/ shows both signs.
    overlay = np.clip(np.asanyarray(heat.dataobj), 0, None)
    volume = np.asanyarray(image.dataobj)
    full = View(volume, image.affine, overlay, {OUTLINE: np.asanyarray(mask.dataobj)}).framed()
    return View(full.volume, full.affine, at=full.at), full


def page(demo: DemoFolder, results: dict[str, Any]) -> str:
    """The HTML page."""
    run, saliency = demo.run, results["saliency"]
    predictions = run.predictions()
    names = run.target.names
    outputs = predictions[[f"p_{name}" for name in names]].to_numpy()
    labels = predictions["true"].map({name: k for k, name in enumerate(names)}).to_numpy()
    seconds = [[name, f"{value:.0f}"] for name, value in results["seconds"].items()]
    roc = plots.roc(labels, {"model": outputs}, names)
    curves = plots.training(run.training_curves())
    body = [
        "<h1>uncus demo <span class=faint>· synthetic brains with known atrophy</span></h1>",
        notice(),
        f"<p class=lead>{text(results['headline']['name'])} "
        f"<b>{estimate_text(results['headline'])}</b> over {results['subjects']} "
        "subjects, each tested by a network that was not trained on them. For a new synthetic "
        f"scan labelled AD, {saliency['share']:.0%} of the saliency is inside the true atrophy: "
        f"<b>{saliency['times_brain']:.1f} times</b> the share of a map that is uniform over the "
        "brain.</p>",
        "<h2>Predictions for new scans</h2>",
        *(
            bar(diagnosis, shares["AD"], results["answers"][diagnosis])
            for diagnosis, shares in results["new"].items()
        ),
        image(
            (demo.path / "demo.png").read_bytes(),
            "A scan, its saliency and the outline of its true atrophy",
        ),
        "<h2>The cohort</h2>",
        image(
            (demo.path / "cohort.png").read_bytes(),
            "Synthetic brains: controls on the left, patients on the right",
        ),
        "<h2>Training and evaluation</h2>",
        f"<div class=figures>{card('ROC', roc, 'Out of fold, on the whole cohort.')}"
        f"{card('Training', curves, 'By epoch.', 'double')}</div>",
        '<p>All metrics and baselines: <a href="run/report.html">run/report.html</a>.</p>',
        f'<p>Saliency methods (<a href="run/passport.html">passport</a>): '
        f"{text(run.verdicts().line())}</p>",
        f"<p>Audit: {text(results['audit'])}; every check with its verdict: "
        '<a href="run/audit.html">run/audit.html</a>.</p>',
        "<p>Model card, with all that is known for and against this run: "
        '<a href="run/MODEL_CARD.md">run/MODEL_CARD.md</a>.</p>',
        "<h2>Times</h2>",
        table(["step", "seconds"], seconds),
        "<h2>Limitations</h2><p>These brains are made from a single template, and the severity of "
        "atrophy hardly overlaps between the two classes. The demo shows that the whole path from "
        "a scan to an explained prediction works; it is no evidence about patients.</p>",
    ]
    return document("uncus demo", body, CSS, "demo.json in the same folder contains the numbers.")


def bar(diagnosis: str, share: float, answer: str) -> str:
    """The probability of AD as a bar, and the answer in words."""
    return (
        f"<p>New scan, {text(diagnosis)}: P(AD) = {share:.3f}</p>"
        f'<div class=bar role=img aria-label="{share:.0%}"><b style="width:{share:.1%}"></b></div>'
        f"<p class=faint>{text(answer)}</p>"
    )
