"""Builds the wheel, installs it outside the repository and imports every module from there."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "kdmlc_tf")

# Runs in a Python of its own, isolated from the repository: argv[1] holds the installed wheel.
IMPORT_ALL = """
import importlib, importlib.metadata, pathlib, pkgutil, sys
site = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(site))
import kdmlc_tf
if pathlib.Path(kdmlc_tf.__file__).parent != site / "kdmlc_tf":
    sys.exit(f"kdmlc_tf came from {kdmlc_tf.__file__}, not from the wheel.")
for module in pkgutil.walk_packages(kdmlc_tf.__path__, "kdmlc_tf."):
    importlib.import_module(module.name)
(distribution,) = importlib.metadata.distributions(name="kdmlc_tf", path=[str(site)])
if distribution.version != kdmlc_tf.__version__:
    sys.exit(f"The wheel says {distribution.version}, the package {kdmlc_tf.__version__}.")
for script in distribution.entry_points:
    script.load()
print(f"wheel {distribution.version}: every module imports, every console script is there")
"""


def build(folder):
    """Installs the wheel, built from a copy of the sources, into `folder`/site; returns that."""
    copy, site = folder / "source", folder / "site"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", str(copy)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", f"--target={site}", str(wheel)], check=True)
    return site


def main():
    """Exits with a message if the wheel lacks a module or one cannot be imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        site = build(folder)
        wanted = {path.relative_to(ROOT) for path in (ROOT / "kdmlc_tf").rglob("*.py")}
        packed = {path.relative_to(site) for path in (site / "kdmlc_tf").rglob("*.py")}
        if wanted != packed:
            missing = ", ".join(sorted(map(str, wanted - packed)))
            sys.exit(f"The wheel lacks {missing}: is an __init__.py missing?")
        check = [sys.executable, "-I", "-c", IMPORT_ALL, str(site)]
        sys.exit(subprocess.run(check, cwd=folder, check=False).returncode)


if __name__ == "__main__":
    main()
