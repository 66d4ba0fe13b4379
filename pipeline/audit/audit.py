"""``uncus audit``: leaks, confounders, shortcuts and label errors of a cohort or a run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from threadpoolctl import threadpool_limits

from uncus import NOTICE, __version__
from uncus.data import files
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.pipeline.audit import association, fitted, identity, label_errors, page, probes
from uncus.pipeline.audit.evidence import Evidence, of_cohort, of_run
from uncus.pipeline.audit.finding import decide
from uncus.pipeline.model_card import card as model_card
from uncus.pipeline.prediction.output import check_writable
from uncus.pipeline.prepare import Prepare
from uncus.pipeline.run_files.audit_summary import summary
from uncus.pipeline.run_files.certificate import Certificate
from uncus.pipeline.runs import Run, check_free

SPACING = 4.0
"""Voxel size (mm) at which scans that are not prepared are looked at."""
ORDER = ("fault", "note", "passed", "not checked")


@dataclass(frozen=True)
class Audit:
    """Look for what makes results too good: leaks, confounders, shortcuts, label errors.

    Writes audit.html, a verdict for each check, and audit.json. Ends with exit code 1 where there
    is a fault.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="COHORT|RUN")] = Path()
    """A run, a prepared cohort, or scans as uncus prepare takes them (BIDS, a table, ...)."""
    target: tuple[str, ...] = ()
    """Column of the classes in a cohort; without one, only identity is checked. A run knows its."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES...")] = ()
    """Classes and their values, such as CN=0 AD=0.5,1,2."""
    regression: bool = False
    """The target is a number."""
    columns: tuple[str, ...] = ()
    """Further columns that the class must not go with, such as education."""
    cohort: Path | None = None
    """The prepared cohort of a run, if it was moved."""
    pretraining: Annotated[Path | None, tyro.conf.arg(metavar="COHORT")] = None
    """The prepared cohort of a run's pre-training, if it was moved."""
    out: Path | None = None
    """Folder of the page; by default the run or the prepared cohort."""
    rebuild: Annotated[Path | None, tyro.conf.arg(metavar="RUN/certificate.json")] = None
    """Do not audit, but rebuild the folds of another's run for this cohort, by the salted hashes in
    its certificate; writes splits.tsv to --out, for uncus train --splits."""

    def __post_init__(self) -> None:
        if self.regression and not self.target:
            raise ValueError("--regression needs --target COLUMN")
        if self.classes and not self.target:
            raise ValueError("--classes needs --target COLUMN")
        if self.rebuild and not self.out:
            raise ValueError("--rebuild needs --out FOLDER for splits.tsv")

    def run(self) -> int:
        """Audit, write and print; returns the exit code."""
        if self.rebuild:
            return self.rebuild_folds(Certificate.read(self.rebuild))
        found = self.audit()
        for finding in found["findings"]:
            print(f"{finding['status']:<12}{finding['title']}: {finding['verdict']}")
        line = summary(found["findings"])
        print(f"\n{found['name']}: {line}\n{Run(self.folder).audit_page}. {NOTICE}")
        return int(any(finding["status"] == "fault" for finding in found["findings"]))

    def audit(self) -> dict[str, Any]:
        """Audit and write; returns the content of audit.json."""
        if self.out and self.out.resolve() != self.path.resolve():
            check_free(self.out)
        check_writable(next(p for p in (self.folder, *self.folder.parents) if p.exists()))
        # The matrices are small: more threads would only wait for each other.
        with self.evidence() as evidence, threadpool_limits(limits=1):
            result = report(evidence, self.columns)
        where = Run(self.folder)
        files.write_json(where.audit_path, result)
        files.write_text(where.audit_page, page.page(result))
        if where.card_path.exists():
            model_card.write(where)
        return result

    def rebuild_folds(self, certificate: Certificate) -> int:
        """Write the folds of a certificate for this cohort's subjects."""
        check_free(self.folder)
        there = Run(self.folder).splits_path
        cohort = PreparedCohort.open(self.path)
        splits = certificate.rebuild(set(cohort.table["participant_id"]), self.path)
        splits.save(there)
        same = files.sha256(there) == certificate.splits, cohort.fingerprint == certificate.cohort
        for what, equal in zip(("folds", "cohort"), same, strict=True):
            print(f"{what}: {'the same, byte by byte' if equal else 'other bytes'}")
        print(f"{there}: {len(splits.frame)} subjects in {splits.folds} folds")
        return 0

    @property
    def is_run(self) -> bool:
        """Whether a run is named."""
        return (self.path / "config.json").is_file() or Run(self.path).card_path.exists()

    @property
    def folder(self) -> Path:
        """Where the page is written to.

        Raises
        ------
        ValueError: nothing was named, or scans that are not prepared without ``--out``.
        """
        if self.path == Path():
            raise ValueError("COHORT or RUN is missing; uncus audit RUN")
        if self.out:
            return self.out
        if self.is_run:
            return Run(self.path).path
        if (self.path / MANIFEST).is_file():
            return self.path
        if not self.path.exists():
            raise BadInput(self.path, "does not exist", "name a run, a cohort or scans")
        raise ValueError(f"{self.path} is not prepared; add --out FOLDER for the page")

    @contextmanager
    def evidence(self) -> Iterator[Evidence]:
        """What to look at; scans that are not prepared are, for the time of the context."""
        if self.is_run:
            if self.target:
                raise ValueError("a run knows its target; leave out --target")
            yield of_run(Run(self.path), self.cohort, self.pretraining)
            return
        if self.cohort or self.pretraining:
            raise ValueError(f"{self.path} is no run; leave out --cohort and --pretraining")
        if (self.path / MANIFEST).is_file():
            yield self.labelled(PreparedCohort.open(self.path))
            return
        with tempfile.TemporaryDirectory(prefix="uncus-audit-") as folder:
            there = Path(folder) / self.path.resolve().name
            Prepare(self.path, there, spacing=(SPACING,)).run()
            yield self.labelled(PreparedCohort.open(there))

    def labelled(self, cohort: PreparedCohort) -> Evidence:
        """A cohort with the labels that were named."""
        return of_cohort(cohort, self.target, self.classes, self.regression)


def report(evidence: Evidence, columns: tuple[str, ...] = ()) -> dict[str, Any]:
    """Make all checks; the content of audit.json."""
    findings = identity.check(evidence) + fitted.check(evidence)
    by_columns = association.check(evidence, columns)
    by_images = [probes.check(evidence), label_errors.check(evidence)]
    for some, _ in (by_columns, *by_images):
        findings += some
    # Apart, so that many probes do not hide a confounder.
    findings += decide(by_columns[1])
    findings += decide([test for _, tests in by_images for test in tests])
    findings.sort(key=lambda finding: ORDER.index(finding.status))
    labels = evidence.labels
    counts = (
        np.bincount(labels[labels >= 0].astype(int), minlength=len(evidence.classes)).tolist()
        if labels is not None and evidence.classes
        else []
    )
    return {
        "name": evidence.name,
        "findings": [finding.as_dict() for finding in findings],
        "counts": {
            "scans": len(evidence.scans),
            "subjects": len(np.unique(evidence.subjects)),
            "classes": dict(zip(evidence.classes, counts, strict=True)),
        },
        "hashes": hashes(evidence),
        "version": __version__,
        "notice": NOTICE,
    }


def hashes(evidence: Evidence) -> dict[str, str]:
    """What the audit holds for."""
    known = {}
    if evidence.images:
        known["cohort"] = evidence.images.cohort.fingerprint
    if evidence.run:
        card = evidence.run.card
        known["cohort"] = str(card["cohort_fingerprint"])
        known["splits"] = files.sha256(evidence.run.splits_path)
        known |= {str(one["file"]): str(one.get("sha256", "")) for one in card["members"]}
    return known


def audit(path: Path | str, **options: Any) -> dict[str, Any]:
    """Audit a run or a cohort and write its page; returns the contents of its audit.json.

    Parameters
    ----------
    path: folder of the run or the cohort.
    options: fields of :class:`Audit`, which are the options of ``uncus audit``.

    Raises
    ------
    ValueError: unknown options, or a run or cohort that cannot be read (BadInput).
    """
    return Audit(Path(path), **options).audit()
