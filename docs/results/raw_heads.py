"""Predict three forms of one real head by the demo's model; write raw_heads.json and raw_heads.md.

    python docs/results/raw_heads.py RUN T1W SEGMENTATION

RUN is a run in space mni (runs/demo/run), T1W a whole head, SEGMENTATION FreeSurfer's labels on the
same grid.
"""

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.raw_heads import three_forms  # noqa: E402
from uncus.pipeline.predict import Predictor  # noqa: E402

FORMS = ("whole head, NIfTI", "whole head, DICOM series", "brain alone, NIfTI")


def main(run: str, head: str, labels: str) -> None:
    """Predict all three forms, and write the results."""
    predictor = Predictor(run, engine="torch")
    with tempfile.TemporaryDirectory() as folder:
        scans = three_forms(Path(head), Path(labels), Path(folder))
        results = {f: predictor(s).probabilities for f, s in zip(FORMS, scans, strict=True)}
    name = predictor.names[-1]
    rows = "\n".join(f"| {form} | {result[name]:.4f} |" for form, result in results.items())
    shares = [result[name] for result in results.values()]
    (HERE / "raw_heads.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "raw_heads.md").write_text(f"""# One head in three forms

| form | P({name}) |
| --- | --- |
{rows}

The largest difference is {max(shares) - min(shares):.4f}. The prediction itself is meaningless,
since the model was trained on phantoms; it should be the same for all forms. Written by
`python docs/results/raw_heads.py RUN T1W SEGMENTATION` from one head of AOMIC (CC0), the demo's run
and FreeSurfer's labels of that head.
""")
    print(HERE / "raw_heads.md")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
