"""Bad input is one line, also after a worker process sent it."""

import pickle

from uncus.data.errors import BadInput


def test_bad_input_is_one_line_and_survives_pickle() -> None:
    error = BadInput("scan.nii", "is cut\n off", "copy it again")
    assert str(error) == "scan.nii: is cut off; copy it again"
    assert str(BadInput("scan.nii", "is cut off", "")) == "scan.nii: is cut off"
    sent = pickle.loads(pickle.dumps(error))
    assert (sent.value, sent.cause, sent.remedy, str(sent)) == (*error.__reduce__()[1], str(error))
