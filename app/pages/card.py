"""The page Model card: what a run was trained on and for, and what is known for and against it."""

import streamlit as st

from uncus.app.pages.chosen_run import chosen_run
from uncus.app.sanitize import plain
from uncus.data.errors import BadInput
from uncus.pipeline.model_card.card import header, text
from uncus.pipeline.model_card.evidence import Evidence


def page() -> None:
    """The page: ``MODEL_CARD.md`` of the chosen run, as its files are now."""
    run = chosen_run()
    try:
        evidence = Evidence.of(run)
    except (BadInput, OSError) as error:
        st.error(plain(" ".join(str(error).split())))
        return
    card = text(evidence)
    st.markdown(card)
    whole = header(evidence) + card
    st.download_button("Download", whole, run.model_card_path.name, "text/markdown")
