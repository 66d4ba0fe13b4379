"""The frame of every page; Streamlit runs it at every action of a user."""

import os
from pathlib import Path

import streamlit as st
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from uncus import NOTICE
from uncus.app.access_guard import BROWSER, LOGOUT
from uncus.app.pages import card, predict, runs
from uncus.app.sessions import SESSIONS
from uncus.app.settings import LOGIN_VARIABLE
from uncus.pipeline.prediction.answer_html import CSS

ICON = Path(__file__).parents[1] / "icon.png"
LOST = "The connection is lost. The page tries again; a scan is kept for a minute."
STYLE = """
  .uncus-lost {display: none; position: fixed; inset: 0 0 auto 0; z-index: 1000001; padding: .6rem;
               background: #8a1c1c; color: #fff; text-align: center}
  [data-testid="stApp"]:not([data-test-connection-state="CONNECTED"]) .uncus-lost {display: block}
  .st-key-map-state {min-height: 4.5rem}
  .uncus-stage {display: grid; place-items: center; height: 40rem; border-radius: .5rem;
                background: #000; color: #fff}
  [data-testid="stCaptionContainer"], [data-testid="stFileUploaderDropzoneInstructions"] *
    {color: inherit !important; opacity: .9}
  [data-testid="stHeaderActionElements"] {display: none}
  @media (max-width: 640px) {
    [data-testid="stMainBlockContainer"] {padding-inline: .8rem !important}
  }
  [data-testid="stMainBlockContainer"] {max-width: 82rem; padding: 4.2rem 1.6rem 5rem}
  [data-testid="stDecoration"], [data-testid="stStatusWidget"], footer,
  [data-testid="stToolbarActions"], [data-testid="stMainMenu"] {display: none}
  .uncus-notice {position: fixed; inset: auto 0 0 0; z-index: 1000; padding: .45rem 1rem;
                 background: #31333f; color: #fff; text-align: center; font-size: .875rem}
  .uncus-paper {width: 100%; max-width: 34rem; background: #fff;
                border-radius: .5rem; padding: .6rem}
  .uncus-files {display: flex; flex-wrap: wrap; gap: .6rem; margin: .2rem 0 1rem}
  .uncus-files a {padding: .38rem .8rem; border: 1px solid rgba(128, 132, 149, .45);
                  border-radius: .5rem; text-decoration: none; color: inherit; font-size: .95rem}
  .uncus-files a:hover, .uncus-files a:focus-visible {border-color: #0b7285; color: #0b7285}
  .st-key-answer h3 {font-size: 1.9rem !important; padding-top: 0}
  .uncus-name {display: flex; align-items: center; gap: .8rem}
  .uncus-name h1 {margin: 0; padding: 0; font-size: 2rem; line-height: 1.1}
  .uncus-facts {display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
                gap: .8rem; margin: .2rem 0 .8rem !important; padding: 0 !important}
  .uncus-facts div {border: 1px solid rgba(128, 132, 149, .45); border-radius: .5rem;
                    padding: .6rem .9rem}
  .uncus-facts dt {font-size: .875rem; font-weight: 400; margin: 0}
  .uncus-facts dd {margin: 0; font-weight: 500}
  [data-testid="stFileUploaderDropzone"] {min-height: 12rem; align-items: center;
                                          justify-content: center; border-style: dashed}
  [data-testid="stFileUploaderDropzone"]::before {content: "Drop a scan here, or"}
  [data-testid="stFileUploaderDropzone"] > * {flex: none !important; width: auto !important}
  [data-testid="stNumberInputStepUp"], [data-testid="stNumberInputStepDown"] {display: none}
  .uncus-example {display: flex; align-items: center; gap: .8rem; font-size: .95rem}
  .uncus-example img {width: 6rem; border-radius: .5rem; background: #000}
  .uncus-wide {overflow-x: auto} .uncus-wide img {width: 100%; min-width: 44rem}
"""

# Figures drawn for white paper, on a dark page.
DARK = ".uncus-paper {filter: invert(.92) hue-rotate(180deg)}"


def main() -> None:
    """Show the requested page."""
    st.set_page_config(page_title="uncus", page_icon=str(ICON), layout="wide")
    dark = DARK if st.context.theme.type == "dark" else ""
    st.html(f"<style>{STYLE}{CSS}{dark}</style>")
    st.html(f'<div class="uncus-notice" role="note">{NOTICE}</div>')
    st.html(f'<div class="uncus-lost" role="alert">{LOST}</div>')
    context = get_script_run_ctx()
    if context:
        SESSIONS.register(context.session_id, st.context.cookies.get(BROWSER, ""))
        come_back(context.session_id)
    pages = [
        st.Page(predict.page, title="Predict", url_path="predict", default=True),
        st.Page(runs.page, title="Runs", url_path="runs"),
        st.Page(card.page, title="Model card", url_path="card"),
    ]
    st.navigation(pages, position="top").run()
    if os.environ.get(LOGIN_VARIABLE):
        st.html(f'<a href="{LOGOUT}" target="_self">Log out</a>')


def come_back(session: str) -> None:
    """Show what this browser had before a reload."""
    state = st.session_state
    if "visited" in state or not Runtime.exists():
        return
    state["visited"] = True
    for scan in SESSIONS.take_over(session, Runtime.instance().is_active_session):
        if scan.several:
            state.setdefault("batch", []).append(scan)
        else:
            state["scan"] = scan


if __name__ == "__main__":  # streamlit's name for it
    main()
