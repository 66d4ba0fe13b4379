"""The page Model card: what a run was trained on and for, and what is known for and against it."""

import streamlit as st

from uncus.app.pages.chosen_run import chosen_run
from uncus.app.sanitize import plain
from uncus.data.errors import BadInput
from uncus.pipeline.builtin.catalog import is_built_in
from uncus.pipeline.model_card.card import header, text
from uncus.pipeline.model_card.evidence import Evidence
from uncus.pipeline.runs import Run


def page() -> None:
    """The page: ``MODEL_CARD.md`` of the chosen run."""
    run = chosen_run()
    try:
        top, card = card_of(run)
    except (BadInput, OSError) as error:
        st.error(plain(" ".join(str(error).split())))
        return
    st.markdown(card)
    st.download_button("Download", top + card, run.model_card_path.name, "text/markdown")


def card_of(run: Run) -> tuple[str, str]:
    """The header for a hub and the card of a run as its files are now.

    A built-in model's came with it: what the card tells of was left where it was trained.
    """
    if is_built_in(run.path):
        top, _, card = run.model_card_path.read_text(encoding="utf-8").partition("\n---\n")
        return f"{top}\n---\n", card
    evidence = Evidence.of(run)
    return header(evidence), text(evidence)
