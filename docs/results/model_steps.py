"""What each step of the built-in models' recipe gives: each changed alone, on the same folds.

    python docs/results/model_steps.py WORK

WORK is that of model.py, which puts the table into model.md; here it is printed.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score

from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.backbones import anatomy
from uncus.models.backbones.anatomy import in_parts
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import read_weights, transfer
from uncus.pipeline.evaluation.adjustment import Adjustment, adjusted
from uncus.pipeline.progress_bars import track

Array = NDArray[Any]
MEASURES = ("age", "nwbv", "etiv", "hippocampus_left", "hippocampus_right")
TEMPERATURES = (1.0, 2.0, 4.0)
PARTITIONS, FOLDS = 10, 5
"""Partitions of the subjects into folds: one recipe's AUC differs between them."""


@dataclass(frozen=True)
class Recipe:
    """How the answer follows from the U-Net's probabilities; the values are those shipped."""

    temperature: float = anatomy.TEMPERATURE
    structures: tuple[int, ...] = anatomy.MEASURED
    rings: bool = True
    bands: bool = True
    penalty: float = 1 / 0.03
    measures: tuple[str, ...] = MEASURES
    norms: int | None = 2  # degree of the polynomial of the age; None: no norms


ALL = tuple(range(1, anatomy.STRUCTURES))
RECIPES = {
    "as shipped": Recipe(),
    "probabilities not softened": Recipe(temperature=1.0),
    "probabilities softened more": Recipe(temperature=4.0),
    "all structures, those at the brain's edge too": Recipe(structures=ALL),
    "no rings from the midline": Recipe(rings=False),
    "whole structures, in no parts": Recipe(rings=False, bands=False),
    "ten times the penalty": Recipe(penalty=10 / 0.03),
    "no norms for age": Recipe(norms=None),
    "norms linear in age": Recipe(norms=1),
    "measures: hippocampi alone": Recipe(measures=MEASURES[3:]),
    "measures: age alone": Recipe(measures=MEASURES[:1]),
}
NESTED = "structures, parts, softness and penalty chosen in the training folds"
FIGURES = ("auc", "auc_adjusted", "age_mae", "hippocampi_r2")


@dataclass(frozen=True)
class People:
    """The scans, in the cohort's order.

    Attributes
    ----------
    parts: temperature -> mean probabilities [N, structures, rings, bands].
    table: a row a scan.
    """

    parts: dict[float, Array]
    table: pd.DataFrame

    def number(self, column: str) -> Array:
        """A column as numbers, NaN where missing."""
        return pd.to_numeric(self.table[column], errors="coerce").to_numpy(float)

    @property
    def ill(self) -> Array:
        """Whether the CDR is above 0, and False where it is unknown."""
        return np.asarray(self.number("cdr") > 0)

    @property
    def asked(self) -> Array:
        """The scans of the task: people of 60 years and over with a CDR."""
        return np.asarray((self.number("age") >= 60) & np.isfinite(self.number("cdr")))

    def features(self, recipe: Recipe) -> Array:
        """[N, C]."""
        places = [ALL.index(structure) for structure in recipe.structures]
        parts = self.parts[recipe.temperature][:, places]
        parts = parts if recipe.rings else parts.sum(2, keepdims=True)
        parts = parts if recipe.bands else parts.sum(3, keepdims=True)
        return parts.reshape(len(parts), -1)


@torch.inference_mode()
def mean_probabilities(work: Path, cohort: PreparedCohort) -> dict[float, Array]:
    """Of each structure in each part, both mirror images averaged; measured once."""
    path = work / "steps.npz"
    if not path.exists():
        model = build_model(ModelConfig(backbone="anatomy", groups=8))
        transfer(model, read_weights(work / "slab.safetensors"), head=False)
        model.eval()
        rows = []
        for array in track(cohort.volumes, "U-Net"):
            volume = torch.from_numpy(np.array(array, np.float32))[None, None]
            size = volume.shape[2:]
            scores = [model.scores(one) for one in (volume, volume.flip(2))]
            found = [
                sum(in_parts(one, size, ALL, temperature).mean((2, 3, 4)) for one in scores) / 2
                for temperature in TEMPERATURES
            ]
            rows.append(torch.stack(found)[:, 0].numpy())
        np.savez(path, probabilities=np.array(rows))
    found = np.load(path)["probabilities"]
    shape = (len(found), len(ALL), anatomy.RINGS, anatomy.BANDS)
    return {t: found[:, k].reshape(shape) for k, t in enumerate(TEMPERATURES)}


def partition(people: People, seed: int) -> Array:
    """The fold of each scan, int [N], by subject, those of the task spread evenly."""
    names = people.table["participant_id"]
    fold = pd.Series(0, names.unique())
    for some in (people.asked & people.ill, people.asked & ~people.ill, ~people.asked):
        own = np.random.default_rng(seed).permutation(names[some].unique())
        fold[own] = np.arange(len(own)) % FOLDS
    return np.asarray(fold[names])


def design(age: Array, degree: int) -> Array:
    """Powers of the age, [N, 1 + degree]."""
    return np.stack([((age - 70) / 10) ** k for k in range(degree + 1)], 1)


def answers(people: People, recipe: Recipe, train: Array, c: float = 0.01) -> tuple[Array, Array]:
    """What is fitted to the scans in ``train``, bool [N]: log-odds [N], and measures [N, M]."""
    features, ages = people.features(recipe), people.number("age")
    spread = features[train].std(0)
    features = (features - features[train].mean(0)) / np.maximum(spread, np.median(spread))
    columns = []
    for name in recipe.measures:
        values = people.number(name)
        known = train & np.isfinite(values)
        ridge = Ridge(recipe.penalty).fit(features[known], values[known])
        columns.append(ridge.predict(features))
    measures, normal = np.stack(columns, 1), train & ~people.ill
    degree = 0 if recipe.norms is None else recipe.norms
    rows = design(ages, degree)
    expected, *_ = np.linalg.lstsq(rows[normal], measures[normal], rcond=None)
    beyond = measures - rows @ expected
    beyond = beyond / beyond[normal].std(0)
    asked = train & people.asked
    model = LogisticRegression(C=c, max_iter=10_000).fit(beyond[asked], people.ill[asked])
    return model.decision_function(beyond), measures


def out_of_fold(people: People, recipe: Recipe, folds: Array) -> tuple[Array, Array]:
    """Log-odds and measures of each scan, by what was fitted without its fold."""
    odds, measures = np.zeros(len(folds)), np.zeros((len(folds), len(recipe.measures)))
    for fold in range(FOLDS):
        test = folds == fold
        found = answers(people, recipe, ~test)
        odds[test], measures[test] = found[0][test], found[1][test]
    return odds, measures


def chosen(people: People, train: Array, seed: int) -> Recipe:
    """The recipe with the best measures inside ``train``: no CDR is looked at."""
    inner = np.where(train, partition(people, 1000 + seed), -1)
    best: tuple[float, Recipe] | None = None
    for recipe in RECIPES.values():
        if recipe.measures != MEASURES or recipe.norms != 2:
            continue  # they differ by what follows from the measures alone
        total = np.full((len(train), len(MEASURES)), np.nan)
        for fold in range(FOLDS):
            some = inner == fold
            total[some] = answers(people, recipe, train & (inner != fold))[1][some]
        score = float(np.mean(explained(people, total)))
        if best is None or score > best[0]:
            best = score, recipe
    assert best
    return best[1]


def explained(people: People, measures: Array) -> list[float]:
    """R² of age and of both hippocampi, over the scans whose measures are known."""
    found = []
    for k in (0, 3, 4):
        values = people.number(MEASURES[k])
        known = np.isfinite(values) & np.isfinite(measures[:, k])
        found.append(float(r2_score(values[known], measures[known, k])))
    return found


def areas(people: People, odds: Array) -> tuple[float, float]:
    """AUC of dementia, and adjusted for age and sex as in the reports."""
    asked = people.asked & ~people.table.duplicated("participant_id").to_numpy()
    labels, scores = people.ill[asked].astype(int), odds[asked]
    adjustment = Adjustment.of(people.table[asked], labels, ("age", "sex"))
    assert adjustment
    shares = 1 / (1 + np.exp(-scores))
    probabilities = np.stack([1 - shares, shares], 1)
    found = adjusted(labels, probabilities, np.ones((1, len(labels))), adjustment)
    return float(roc_auc_score(labels, scores)), float(found["auc_adjusted"][0])


def measure(people: People) -> list[dict[str, Any]]:
    """A row a recipe, and one for the choice inside the training folds."""
    found: dict[str, list[Any]] = {name: [] for name in (*RECIPES, NESTED)}
    for seed in track(range(PARTITIONS), "partitions"):
        folds = partition(people, seed)
        for name, recipe in RECIPES.items():
            odds, measures = out_of_fold(people, recipe, folds)
            figures = [*areas(people, odds)]
            if recipe.measures == MEASURES:
                error = np.abs(measures[:, 0] - people.number("age")).mean()
                figures += [float(error), float(np.mean(explained(people, measures)[1:]))]
            found[name].append(figures)
        odds = np.zeros(len(folds))
        for fold in range(FOLDS):
            test = folds == fold
            recipe = chosen(people, ~test, seed)
            odds[test] = answers(people, recipe, ~test)[0][test]
        found[NESTED].append([*areas(people, odds)])
    rows = []
    shipped = np.array(found["as shipped"])
    for name, values in found.items():
        here = np.array(values)
        change = here[:, :2] - shipped[:, :2]
        row = dict(zip(FIGURES, here.mean(0).tolist(), strict=False))
        for k, key in enumerate(FIGURES[:2]):
            row |= {f"{key}_change": change[:, k].mean(), f"{key}_sd": change[:, k].std(ddof=1)}
        rows.append({"step": name, **row})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for model.md."""
    lines = []
    for row in rows:
        cells = [f"{row['auc']:.3f}", f"{row['auc_adjusted']:.3f}"]
        cells += [f"{row[f'{key}_change']:+.3f} ± {row[f'{key}_sd']:.3f}" for key in FIGURES[:2]]
        cells += [f"{row[key]:.2f}" if key in row else "" for key in FIGURES[2:]]
        lines.append(f"| {row['step']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    cohort = PreparedCohort.open(Path(sys.argv[1]) / "cohort")
    people = People(mean_probabilities(Path(sys.argv[1]), cohort), cohort.table)
    print(table(measure(people)))
