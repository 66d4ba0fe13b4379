"""``uncus evaluate --robust``: the metric of disturbed scans, and the calls that change."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from uncus import NOTICE, __version__
from uncus.data import files
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.pipeline.environment import torch_device
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.evaluation.bootstrap import LEVEL, bootstrap, interval
from uncus.pipeline.evaluation.measurement import main_metric, measure
from uncus.pipeline.evaluation.metrics import Array, Values
from uncus.pipeline.evaluation.predictions import SCAN, Outputs, model_outputs
from uncus.pipeline.prediction.trained_networks import read_networks
from uncus.pipeline.progress_bars import track
from uncus.pipeline.robustness.judges import UNDISTURBED, Judge, judged, key, levels, titles
from uncus.pipeline.robustness.trial import Trial
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.domain import synthetic_warning

MADE = 1
"""Raised where disturbances change otherwise than in their levels: outputs are then made anew."""
Made = dict[str, list[list[float]]]
"""Disturbance and level -> outputs [networks][K] for a scan."""


def robustness(
    trial: Trial, out: Run, draws: int = 2000, seed: int = 0, device: str = "cpu"
) -> dict[str, Any]:
    """Disturb every scan of a trial; the content of robustness.json.

    What was measured before of a scan, with the same networks and levels, is not measured again.
    """
    return assess(trial, outputs(trial, out, torch_device(device)), draws, seed)


def outputs(trial: Trial, out: Run, device: torch.device) -> dict[str, Array]:
    """Disturbance and level -> the outputs [rows of ``judged``, K]."""
    run = trial.run
    _, networks = read_networks(run, device)
    flip, regression = run.card["flip_average"], run.target.regression
    judges = [
        Judge(network.requires_grad_(False), flip, regression, member)
        for network, member in zip(networks, run.card["members"], strict=True)
    ]
    found: dict[str, Array] = {}
    scans = list(trial.judged.groupby(SCAN, sort=False))
    for names, rows in track(scans, "disturbing"):
        own = rows["member"].tolist()
        name, scan = trial.scan(tuple(map(str, names)), device)
        settings = {
            "made": MADE,
            "levels": {name: list(some) for name, some in levels().items()},
            "weights": [run.card["members"][k].get("sha256", "") for k in own],
            "cohort": trial.cohort.fingerprint,
        }
        made = stored(out, name, settings)
        if made is None:
            made = judged(scan, [judges[k] for k in own])
            content = {"settings": settings, "outputs": made}
            files.write_json(out.disturbed_case(name), content)
        for what, values in made.items():
            known = found.setdefault(what, np.empty((len(trial.judged), len(values[0]))))
            known[rows.index] = values
    return found


def stored(out: Run, name: str, settings: dict[str, Any]) -> Made | None:
    """What was made of a scan with these settings; None where nothing was, or it is damaged."""
    try:
        content = files.read_json(out.disturbed_case(name))
    except BadInput:
        return None
    if not isinstance(content, dict) or content.get("settings") != settings:
        return None
    made: Any = content.get("outputs")
    wanted = {UNDISTURBED, *(key(one, level) for one, some in levels().items() for level in some)}
    return made if isinstance(made, dict) and made.keys() == wanted else None


def assess(trial: Trial, found: dict[str, Array], draws: int, seed: int) -> dict[str, Any]:
    """The content of robustness.json, from the outputs of :func:`outputs`."""
    run, study = trial.run, trial.study
    metric = main_metric(study)
    plain = pooled(trial, found[UNDISTURBED])
    before = measured(trial, plain, plain, draws, seed)
    result: dict[str, Any] = {
        "run": run.path.resolve().name,
        "cohort": trial.cohort.path.resolve().name,
        "metric": metric,
        "name": metrics.title(metric),
        "lower_is_better": metrics.base(metric) in metrics.LOWER_IS_BETTER,
        "regression": study.target.regression,
        "scans": len(plain.rows),
        "subjects": len(np.unique(plain.subjects)),
        "fewest": fewest(study.target, plain),
        "networks": len(run.card["members"]),
        "interval": {"level": LEVEL, "method": "bootstrap over subjects", "draws": draws},
        "plain": interval(before["value"]),
        "disturbances": {},
        "warnings": list(synthetic_warning(run.card)),
        "hashes": run.weights_sums(),
        "notice": NOTICE,
        "version": __version__,
    }
    known = titles()
    for name, some in levels().items():
        rows = []
        for level in some:
            after = measured(trial, pooled(trial, found[key(name, level)]), plain, draws, seed)
            rows.append(
                {
                    "level": level,
                    **interval(after["value"]),
                    "change": interval(after["value"] - before["value"]),
                    "calls": interval(after["calls"]),
                }
            )
        title, unit = known[name]
        result["disturbances"][name] = {"title": title, "unit": unit, "levels": rows}
    return result


def fewest(target: Target, outputs: Outputs) -> int:
    """How many subjects there are of the rarest class; of a regression, of all."""
    if target.regression:
        return len(np.unique(outputs.subjects))
    classes = range(len(target.names))
    return min(len(np.unique(outputs.subjects[outputs.labels == k])) for k in classes)


def pooled(trial: Trial, values: Array) -> Outputs:
    """One row per labelled scan, as in the report: seeds and folds averaged."""
    target = trial.study.target
    names = [f"{'pred' if target.regression else 'p'}_{name}" for name in target.names]
    table = pd.concat([trial.judged, pd.DataFrame(values, columns=names)], axis=1)
    one = model_outputs(trial.study, table).pooled("test")
    return one.take(one.labelled)


def measured(trial: Trial, after: Outputs, before: Outputs, draws: int, seed: int) -> Values:
    """``value``: the main metric; ``calls``: the share of scans with another predicted class, or
    the mean absolute change of a regression's first column; for the same resamples each time."""
    metric, study = main_metric(trial.study), trial.study
    here, there = after.values["model"], before.values["model"]
    if study.target.regression:
        moved = np.abs(here - there)[:, 0]
    else:
        moved = (here.argmax(axis=1) != there.argmax(axis=1)).astype(float)

    def both(weights: Array) -> Values:
        value = measure(study, after.labels, here, weights)[metric]
        return {"value": value, "calls": weights @ moved / weights.sum(axis=1)}

    return bootstrap(both, after.subjects, draws, seed)
