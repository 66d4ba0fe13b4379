"""Messages between the page and its worker."""

import pytest

from uncus.app.protocol import Reply, Request


def test_messages_survive_a_line() -> None:
    request = Request("token", covariates={"age": 72.0, "sex": None}, method="grad_cam")
    assert Request.from_line(request.to_line()) == request
    reply = Reply(step="Reading", timings={"Reading": {"seconds": 1.0, "processor": 0.5}})
    assert reply.to_line().count("\n") == 1
    assert Reply.from_line(reply.to_line()) == reply


@pytest.mark.parametrize("line", ["", "text", "[1]", '{"step": ', '{"other": 1}'])
def test_other_lines_raise(line: str) -> None:
    with pytest.raises(ValueError):
        Reply.from_line(line)
