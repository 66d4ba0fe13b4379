"""What a report says of the run: its network, how it was trained, and on what."""

from typing import Any

from uncus.models.build import ModelConfig
from uncus.pipeline.config import from_dict
from uncus.pipeline.rendering.html import table
from uncus.pipeline.runs import Run
from uncus.pipeline.training.options import TrainingOptions


def run_facts(run: Run) -> dict[str, Any]:
    """Title -> value, of the model card and, where they are there, of options and environment."""
    facts: dict[str, Any] = {}
    if run.card_path.exists():
        card = run.card
        model, known = from_dict(ModelConfig, card["model"], run.card_path), card["training"]
        facts |= {
            "network": f"{model.backbone}, {model.width} channels at first",
            "norm": norm_text(model),
            "networks": len(card["members"]),
            "covariates": ", ".join(card.get("covariates", {})) or "none",
            "started from": card.get("init_from") or "random weights",
            "subjects": f"{known['subjects']}, with {known['scans']} scans",
            "space": f"{card['space']}, {' x '.join(map(str, card['grid']['shape']))} voxels",
            "fingerprint of the cohort": card["cohort_fingerprint"],
            "made": card["made"],
        }
        if eps := known.get("adversarial"):
            facts["adversarial training"] = adversarial_text(eps)
        if adapted := card.get("adapted"):
            facts |= {"adapted": adapted["summary"], "cohort": adapted["cohort"]}
    if run.config_path.exists() and "adapted" not in facts:
        options = TrainingOptions.stored(run.path)
        how = options.optimization
        facts |= {
            "recipe": options.recipe,
            "epochs": how.epochs,
            "batch size": how.batch_size,
            "learning rate": how.lr,
            "folds": options.folds,
            "seeds": ", ".join(str(options.seed + k) for k in range(options.seeds)),
            "cohort": options.cohort.name,
        }
        if how.refit_head:
            facts["head"] = f"fitted exactly, C = {how.refit_head:g}"
        if run.pretraining.config_path.exists():
            before = TrainingOptions.stored(run.pretraining.path)
            facts["epochs of the pre-training"] = before.optimization.epochs
            if eps := before.optimization.adversarial:
                facts["adversarial pre-training"] = adversarial_text(eps)
    if run.environment_path.exists():
        names = ("date", "command", "code")
        facts |= {name: run.environment[name] for name in names if name in run.environment}
    return facts


def adversarial_text(eps: float) -> str:
    """What the networks were trained on."""
    return f"FGSM from a random start, each voxel changed by up to {eps:g} SD of the brain"


def norm_text(model: ModelConfig) -> str:
    """The norm with its groups."""
    if model.channels_per_group:
        return f"{model.norm}, {model.channels_per_group} channels a group"
    return model.norm + (f", {model.groups} groups" if model.groups else "")


def facts_table(facts: dict[str, Any]) -> str:
    """The section of the page."""
    return f"<h2>The run</h2>{table(['', ''], facts.items())}" if facts else ""
