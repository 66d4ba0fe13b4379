"""The passport as a self-contained page."""

from collections.abc import Mapping
from typing import Any

from uncus.pipeline.rendering.html import card, document, notice, table, text
from uncus.pipeline.rendering.numbers import fixed
from uncus.pipeline.rendering.svg import FAINT, SIDE, colours, figure, styled, svg

CSS = ".passed { color:#2b7a3d } .failed { color:#b3261e } .judged { color:var(--faint) }"
TITLES = {
    "weights": "likeness to a trained / an untrained network",
    "labels": "likeness to true / shuffled labels",
    "order": "change of the score by the map's / random order",
    "lesions": "AUC for lesions, trained / untrained network",
}
MEANING = (
    "Each method explains scans by a network that was not trained on their subjects. A method "
    "passes a test where its maps do better than the reference on the same scans (Wilcoxon's "
    "signed-rank test, one-sided, p below 0.05). References are networks without training, other "
    "networks of the run and random order; no threshold was set by hand. Likeness is the rank "
    "correlation of maps in the brain; the change of the score is that by inserting what the map "
    "marks first, minus that by deleting it, on average. Passing shows that maps "
    "depend on what the networks learned and mark what the score rests on; not that this is the "
    "disease."
)


def page(name: str, passport: Mapping[str, Any]) -> str:
    """The page on the content of passport.json."""
    methods = passport["methods"]
    body = [
        f"<h1>Saliency passport <span class=faint>· {text(name)}</span></h1>",
        notice(),
        f"<p class=lead>{text(lead(passport))}</p>",
        "".join(verdict(method, one) for method, one in methods.items()),
        "<h2>Tests</h2>",
        table(HEADS, test_rows(methods)),
        f"<p class=faint>{text(MEANING)}</p>",
        f"<div class=figures>{''.join(figures(passport))}</div>",
        likeness(passport),
        others(methods),
    ]
    if passport["not_done"]:
        items = "".join(f"<li>{text(line)}</li>" for line in passport["not_done"])
        body += [f"<h2>Not done</h2><ul>{items}</ul>"]
    return document("Saliency passport · uncus", body, CSS, f"Made {passport['made']}.")


HEADS = ("method", "test", "value", "reference", "p", "scans", "")


def lead(passport: Mapping[str, Any]) -> str:
    """What was checked."""
    quick = " in a reduced form" if passport["quick"] else ""
    outputs = ", ".join(passport["outputs"])
    return f"The saliency methods, checked{quick} on {passport['subjects']} scans for {outputs}."


def verdict(method: str, one: Mapping[str, Any]) -> str:
    """A method's verdict with its reasons."""
    state = one["verdict"]
    reasons = "; ".join(one["reasons"])
    if state == "not judged":
        reasons = "too few scans for a verdict"
    mark = state.split()[-1]
    return (
        f"<p><b>{text(method.replace('_', ' '))}</b>: <b class={mark}>{text(state)}</b>"
        + (f" – {text(reasons)}" if reasons else "")
        + "</p>"
    )


def test_rows(methods: Mapping[str, Any]) -> list[list[str]]:
    """One row for each test of each method."""
    state = {True: "passed", False: "failed", None: "not judged"}
    return [
        [
            method.replace("_", " "),
            TITLES[name],
            fixed(test["value"], 3),
            fixed(test["reference"], 3),
            fixed(test["p"], 4),
            str(test["scans"]),
            state[test["passed"]],
        ]
        for method, one in methods.items()
        for name, test in one["tests"].items()
    ]


def figures(passport: Mapping[str, Any]) -> list[str]:
    """The cascade, and the curves of deletion and insertion."""
    methods = {m: one for m, one in passport["methods"].items() if one["tests"]}
    if not methods:
        return []
    cascades = {m: one["cascade"] for m, one in methods.items()}
    captions = {
        "deletion": "What the map marks is removed first. Dashed: random order.",
        "insertion": "What the map marks is shown first. Dashed: random order.",
    }
    cards = [
        card(
            "Weights randomized",
            cascade_plot(cascades),
            "Likeness to the trained network's map as layers are drawn anew from the head on.",
        )
    ] * (max(map(len, cascades.values())) > 1)
    for kind, caption in captions.items():
        curves = {m: one["removal"][kind] for m, one in methods.items()}
        drawn = removal_plot(kind, curves, passport["random"][kind])
        cards.append(card(kind.capitalize(), drawn, caption))
    return cards


@styled
def cascade_plot(cascades: Mapping[str, Any]) -> str:
    """Similarity against the share of layers that were drawn anew."""
    drawn, axes = figure(SIDE, SIDE)
    shades = colours(list(cascades))
    for method, stages in cascades.items():
        shares = [0.0, *(stage["share"] for stage in stages)]
        values = [1.0, *(stage["spearman"] for stage in stages)]
        axes.plot(shares, values, "o-", color=shades[method], label=method.replace("_", " "))
    axes.axhline(0, color=FAINT, lw=1, ls=(0, (4, 3)))
    axes.set_xlabel("share of the layers drawn anew")
    axes.set_ylabel("rank correlation of maps")
    axes.legend()
    return svg(drawn, "Likeness of maps as weights are randomized")


@styled
def removal_plot(kind: str, curves: Mapping[str, Any], random: list[float]) -> str:
    """Score against the share of the brain that was removed or shown."""
    drawn, axes = figure(SIDE, SIDE)
    shades = colours(list(curves))
    for method, values in curves.items():
        shares = [k / (len(values) - 1) for k in range(len(values))]
        axes.plot(shares, values, color=shades[method], label=method.replace("_", " "))
    if random:
        shares = [k / (len(random) - 1) for k in range(len(random))]
        axes.plot(shares, random, color=FAINT, ls=(0, (4, 3)), label="random order")
    axes.set_xlabel(f"share of the brain {'removed' if kind == 'deletion' else 'shown'}")
    axes.set_ylabel("score")
    axes.legend()
    return svg(drawn, f"{kind} curves")


def likeness(passport: Mapping[str, Any]) -> str:
    """Agreement between networks, scans of a subject, and methods."""
    whose = "another network" if passport["compared_with"] == "another network" else "a noisy copy"
    heads = ("method", "compared with", "rank correlation", "of absolute values", "SSIM")
    rows = []
    for method, one in passport["methods"].items():
        shown = {whose: one.get("trained"), "another scan of the subject": one.get("second")}
        shown["shuffled labels"] = one.get("shuffled")
        shown["untrained network"] = (one.get("cascade") or [None])[-1]
        rows += [
            [method.replace("_", " "), label]
            + [fixed(found[key], 2) for key in ("spearman", "spearman_absolute", "ssim")]
            for label, found in shown.items()
            if found
        ]
    pairs = [
        [pair.replace("|", " and ").replace("_", " "), fixed(value, 2)]
        for pair, value in passport["agreement"].items()
    ]
    parts = ["<h2>Likeness of maps</h2>", table(heads, rows)] if rows else []
    if pairs:
        parts += ["<h2>Likeness of methods</h2>", table(("methods", "rank correlation"), pairs)]
    return "".join(parts)


def others(methods: Mapping[str, Any]) -> str:
    """Localization, and captum's metrics."""
    parts = []
    lesions = {m: one for m, one in methods.items() if "lesion" in one}
    if lesions:
        heads = ("method", "AUC", "peak inside", "share inside", "times an even map", "scans")
        rows = []
        for method, one in lesions.items():
            for label, found in (("", one["lesion"]), (", untrained", one["lesion_untrained"])):
                rows.append(
                    [
                        method.replace("_", " ") + label,
                        fixed(found["auc"], 3),
                        f"{found['pointing']:.0%}",
                        f"{found['share']:.0%}",
                        fixed(found["times_brain"], 1),
                        str(found["scans"]),
                    ]
                )
        parts += ["<h2>Known lesions</h2>", table(heads, rows)]
    captum = {m: one["captum"] for m, one in methods.items() if "captum" in one}
    if captum:
        names = ("method", "infidelity", "of a shuffled map", "sensitivity")
        rows = [
            [m.replace("_", " ")]
            + [fixed(c[key], 3) for key in ("infidelity", "infidelity_shuffled", "sensitivity")]
            for m, c in captum.items()
        ]
        parts += ["<h2>Infidelity and sensitivity</h2>", table(names, rows)]
        parts.append(
            "<p class=faint>By captum (Yeh 2019), lower is better: how far the map misses the "
            "score's change when random parts are removed, and how much a little noise changes "
            "it.</p>"
        )
    return "".join(parts)
