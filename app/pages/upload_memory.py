"""What Streamlit holds of an upload, and how it lets go of it."""

from collections.abc import Sequence
from typing import Any

from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx


def session_id() -> str:
    """Streamlit's name of the visitor's session."""
    context = get_script_run_ctx()
    return context.session_id if context else ""


def free(uploads: Sequence[Any]) -> None:
    """Drop uploads from Streamlit's memory, where they would stay until the session ends."""
    if Runtime.exists():
        keeper: Any = Runtime.instance().uploaded_file_mgr
        for upload in uploads:
            keeper.remove_file(session_id(), upload.file_id)
