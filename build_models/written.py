"""The end of a build: a bundle with its reports, or the reports of what was refused."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from build_models.output import move_files, publish
from worker.bundle import REPORTS, Manifest, file_sha256, write_manifest


class Reported(Protocol):
    """What was measured."""

    def write(self, folder: Path) -> None:
        """Writes some of the files that `REPORTS` names into a folder that is there."""
        ...


def write_bundle(manifest: Manifest, report: Reported, folder: Path, out: Path) -> Manifest:
    """Adds reports and manifest to the files of a candidate and moves them to `out`; returns the manifest.

    Raises:
        OutputError: The move failed; what was at `out` is there still.
    """
    report.write(folder)
    reports = {name: file_sha256(folder / name) for name in REPORTS if (folder / name).is_file()}
    manifest = replace(manifest, files={**manifest.files, **reports})
    write_manifest(folder, manifest)
    publish(folder, out)
    return manifest


def write_refused(report: Reported, workspace: Path, out: Path) -> Path:
    """Leaves the reports of a build that wrote nothing beside `out`; returns where."""
    kept = out.with_name(out.name + ".report")
    folder = workspace / "report"
    folder.mkdir()
    report.write(folder)
    move_files(folder, kept)
    return kept
