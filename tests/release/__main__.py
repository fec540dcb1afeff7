"""`make release`: the files of a release in `dist/`, each looked at.

A source distribution, the wheel that is built from it, a bill of materials of the worker's environment
(CycloneDX, validated), and their SHA-256. With `--extras` each extra is installed alone, which takes minutes.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.release import extras

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
CONSTRAINTS = ROOT / "constraints.txt"
SHIPPED = "worker,http,tracing"  # what the worker's image holds
# Words that no bill of materials may hold: where it was made.
_PLACES = re.compile(r"file://|/(?:home|root|tmp|work)/")


def main() -> None:
    """Makes the files; ends with 1 where one is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("--extras", action="store_true", help="install each extra alone and try it")
    options = parser.parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    # The wheel is built from the source distribution, so what that lacks shows here.
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "-o", str(DIST), str(ROOT)], check=True)
    (wheel,) = DIST.glob("*.whl")
    _bill_of_materials(wheel)
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(DIST.iterdir())
    ]
    (DIST / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    print("\n".join(sums))
    if options.extras:
        _try_extras(wheel)


def _bill_of_materials(wheel: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    bill = DIST / f"embedpool-{version}-worker.cdx.json"
    with tempfile.TemporaryDirectory(prefix="embedpool-bill-") as folder:
        python = extras.environment(Path(folder) / "venv", wheel, SHIPPED, CONSTRAINTS)
        subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", "pip", "setuptools"], check=True)
        command = [sys.executable, "-m", "cyclonedx_py", "environment", "--validate", "--output-reproducible"]
        command += ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application", "--short-PURLs"]
        subprocess.run([*command, "-o", str(bill), str(python)], check=True)
    text = bill.read_text(encoding="utf-8")
    if found := _PLACES.search(text):
        raise SystemExit(f"error: {bill.name} tells where it was made: {found.group()}")
    product = json.loads(text)["metadata"]["component"]
    if (product["name"], product["version"]) != ("embedpool", version):
        raise SystemExit(
            f"error: {bill.name} is of {product['name']} {product['version']}, wanted embedpool {version}"
        )


def _try_extras(wheel: Path) -> None:
    failed = False
    for extra in extras.SMOKE:
        installed = extras.check(wheel, extra, CONSTRAINTS)
        print(f"{extra:16} {installed.megabytes:6.0f} MB  {installed.problem or 'ok'}", flush=True)
        failed |= bool(installed.problem)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
