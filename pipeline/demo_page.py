"""The page and the picture of ``uncus demo``."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from matplotlib.figure import Figure

from uncus import NOTICE
from uncus.data import files
from uncus.pipeline.evaluation import plots, report
from uncus.pipeline.evaluation.report_text import spoken, text
from uncus.pipeline.rendering.slices import PLANES, View, draw_plane, save_png, widths
from uncus.pipeline.runs import Run

if TYPE_CHECKING:
    from uncus.pipeline.demo import Demo

CSS = """
img { display:block; width:100%; height:auto; border-radius:4px }
.bar { display:flex; height:26px; max-width:520px; border-radius:4px; overflow:hidden;
  background:#d7e3e8; margin:4px 0 12px }
.bar b { background:var(--model); color:#fff; font-size:13px; line-height:26px; padding-left:8px;
  white-space:nowrap }
"""


def write(demo: "Demo", found: dict[str, Any]) -> None:
    """index.html, which needs no other file, and demo.png in the demo's folder."""
    save_png(picture(demo, found), demo.out / "demo.png", dpi=110, colours=0)
    files.write_text(demo.out / "index.html", page(demo, found))


def picture(demo: "Demo", found: dict[str, Any]) -> Figure:
    """The new patient's scan, its saliency and its true atrophy: three planes twice."""
    scan, view = patient(demo, found)
    figure = Figure(figsize=(9.2, 6.3), facecolor="black", layout="constrained")
    places = figure.subplots(2, 3, gridspec_kw={"width_ratios": widths(view)})
    heat: Any = None
    for row, shown in zip(places, (scan, view), strict=True):
        for place, (_, axis) in zip(row, PLANES, strict=True):
            heat = draw_plane(place, shown, axis) or heat
    bar = figure.colorbar(heat, ax=places, fraction=0.02, pad=0.01)
    bar.set_ticks([])
    bar.set_label("speaks for AD  →", color="white", fontsize=9)
    figure.suptitle(headline(found), color="white", fontsize=11)
    figure.supxlabel(
        "Above: a synthetic scan that no network has seen. Below: what speaks for AD (heat) and "
        f"where disease truly moved tissue (blue).\n{NOTICE}",
        color="0.75",
        fontsize=8,
    )
    return figure


def headline(found: dict[str, Any]) -> str:
    """The demo's result in one line."""
    auc, where = found["auc"], found["saliency"]
    return (
        f"P(AD) = {found['new']['AD']['AD']:.2f}      AUC of the cohort {auc['value']:.2f} "
        f"({auc['low']:.2f} to {auc['high']:.2f})      saliency in the true atrophy: "
        f"{where['times_brain']:.1f} x even"
    )


def patient(demo: "Demo", found: dict[str, Any]) -> tuple[View, View]:
    """The new patient's scan, alone and with its saliency and true atrophy (RAS+)."""
    path, truth = demo.new_scans()["AD"]
    image, heat, mask = (
        nibabel.as_closest_canonical(nibabel.load(p))
        for p in (path, demo.answer_folder(path) / "saliency.nii.gz", truth)
    )
    # What speaks for the class; what speaks against it has its own picture in predictions/.
    overlay = np.clip(np.asanyarray(heat.dataobj), 0, None)
    volume = np.asanyarray(image.dataobj)
    full = View(volume, image.affine, overlay, np.asanyarray(mask.dataobj)).framed()
    return View(full.volume, full.affine, at=full.at), full


def page(demo: "Demo", found: dict[str, Any]) -> str:
    """The HTML page."""
    run, where = Run(demo.out / "run"), found["saliency"]
    predictions = run.predictions()
    names = run.target.names
    said = predictions[[f"p_{name}" for name in names]].to_numpy()
    labels = predictions["true"].map({name: k for k, name in enumerate(names)}).to_numpy()
    seconds = [[name, f"{value:.0f}"] for name, value in found["seconds"].items()]
    roc = report.card(
        "ROC", plots.roc(labels, {"model": said}, names), "Out of fold, on the whole cohort."
    )
    curves = plots.training(run.training_curves())
    body = [
        "<h1>uncus demo <span class=faint>· synthetic brains with known atrophy</span></h1>",
        f"<div class=notice>{text(NOTICE)}</div>",
        f"<p class=lead>AUC <b>{spoken(found['auc'])}</b> over {found['subjects']} subjects, each "
        f"tested by a network that never saw them. For a new patient's scan {where['share']:.0%} "
        "of the saliency lies where disease truly moved tissue: "
        f"<b>{where['times_brain']:.1f} times</b> what a map even over the brain has there.</p>",
        "<h2>A new scan, and what speaks for the answer</h2>",
        *(bar(diagnosis, shares["AD"]) for diagnosis, shares in found["new"].items()),
        image(demo.out / "demo.png", "A scan, its saliency and the outline of its true atrophy"),
        "<h2>The cohort</h2>",
        image(demo.out / "cohort.png", "Synthetic brains: controls left, patients right"),
        "<h2>Training and evaluation</h2>",
        f"<div class=figures>{roc}{report.card('Training', curves, 'By epoch.', 'double')}</div>",
        '<p>All metrics and baselines: <a href="run/report.html">run/report.html</a>.</p>',
        "<h2>Times</h2>",
        report.table(["step", "seconds"], seconds),
        "<h2>What this is not</h2><p>These brains are made from one template, and the severities "
        "of the two classes hardly overlap. The demo shows that the path from a scan to an "
        "explained answer works; it says nothing about patients.</p>",
        f"<footer>{text(NOTICE)} The same numbers are in demo.json beside this page.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>uncus demo</title><style>{report.CSS}{CSS}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def bar(diagnosis: str, share: float) -> str:
    """The probability of the disease as a bar."""
    return (
        f"<p>A new scan, {text(diagnosis)}: P(AD) = {share:.3f}</p>"
        f'<div class=bar role=img aria-label="{share:.0%}"><b style="width:{share:.1%}"></b></div>'
    )


def image(path: Path, meaning: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<figure class=wide><img alt="{text(meaning)}" src="data:image/png;base64,{data}">' + (
        f"<figcaption>{text(meaning)}.</figcaption></figure>"
    )
