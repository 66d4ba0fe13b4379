"""Streamlit's copies of uploads, and their release."""

from collections.abc import Sequence
from typing import Any

from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx


def session_id() -> str:
    """Streamlit's name of the user's session."""
    context = get_script_run_ctx()
    return context.session_id if context else ""


def free(uploads: Sequence[Any]) -> None:
    """Remove uploads from Streamlit's memory, which keeps them until the session ends."""
    if Runtime.exists():
        manager: Any = Runtime.instance().uploaded_file_mgr
        for upload in uploads:
            manager.remove_file(session_id(), upload.file_id)
