"""One real head given in three ways to the demo's model; writes raw_heads.json and raw_heads.md.

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

from tests.raw_heads import three_ways  # noqa: E402
from uncus.pipeline.predict import Predictor  # noqa: E402

WAYS = ("whole head, NIfTI", "whole head, DICOM series", "brain alone, NIfTI")


def main(run: str, head: str, labels: str) -> None:
    """Predict all three, and write what was said."""
    predictor = Predictor(run, engine="torch")
    with tempfile.TemporaryDirectory() as folder:
        scans = three_ways(Path(head), Path(labels), Path(folder))
        said = {way: predictor(s).probabilities for way, s in zip(WAYS, scans, strict=True)}
    name = predictor.names[-1]
    rows = "\n".join(f"| {way} | {found[name]:.4f} |" for way, found in said.items())
    shares = [found[name] for found in said.values()]
    (HERE / "raw_heads.json").write_text(json.dumps(said, indent=1) + "\n")
    (HERE / "raw_heads.md").write_text(f"""# The same head in three ways

| given as | P({name}) |
| --- | --- |
{rows}

The largest difference is {max(shares) - min(shares):.4f}. What a model of phantoms says of a real
person means nothing; that it says the same three times is the point. Written by
`python docs/results/raw_heads.py RUN T1W SEGMENTATION` from one head of AOMIC (CC0), the demo's run
and FreeSurfer's labels of that head.
""")
    print(HERE / "raw_heads.md")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
