"""Libraries that may be missing: check before work begins, and say what to install.

An environment of one's own may lack any of them (no room for torch, no wheel of mlflow), and most
commands do without.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tracker.training.errors import MissingLibraryError

# By the name that is imported; a test compares them with pyproject.toml.
REQUIREMENTS: Mapping[str, str] = {
    "PIL": "pillow>=11",
    "albumentations": "albumentations>=2.0.8,<3",
    "captum": "captum>=0.8,<1",
    "cleanlab": "cleanlab>=2.7,<3",
    "cv2": "opencv-python-headless",
    "flask": "mlflow[auth]>=3.7,<4",  # mlflow-skinny of the base install has no server
    "filelock": "filelock>=3.15",
    "imagehash": "imagehash>=4.3,<5",
    "jinja2": "jinja2>=3.1,<4",
    "kaggle": "kaggle>=2.2,<3",
    "lightning_fabric": "lightning-fabric>=2.5,<3",
    "matplotlib": "matplotlib>=3.9",
    "mlflow": "mlflow[auth]>=3.7,<4",
    "numpy": "numpy>=1.26",
    "optuna": "optuna>=4.2,<6",
    "pandas": "pandas>=2.2",
    "psutil": "psutil>=6,<8",
    "pyarrow": "pyarrow>=14",
    "psycopg": "psycopg[binary]>=3.2,<4",
    "pynvml": "nvidia-ml-py>=12.560,<14",
    "rembg": "rembg[cpu]>=2.0.70,<3",
    "scipy": "scipy>=1.14",
    "sqlalchemy": "sqlalchemy>=2.0.36,<3",
    "submitit": "submitit>=1.5.2,<2",
    "tensorboard": "tensorboard>=2.18,<3",
    "timm": "timm>=1.0.31,<2",
    "tomli_w": "tomli-w>=1.1,<2",
    "torch": "torch>=2.6",
    "torchvision": "torchvision>=0.21",
    "yaml": "pyyaml>=6",
}
IMAGES = ("numpy", "PIL", "cv2", "yaml", "albumentations")  # reading them as a run does
PICTURES = ("numpy", "PIL", "matplotlib")  # drawing
TRAINING = (*IMAGES, "matplotlib", "torch", "torchvision", "timm", "lightning_fabric", "sqlalchemy")


# The whole extra `train` in the checkout: a registry may have somebody else's package of our name.
INSTALL_TRAIN = 'pip install ".[train]" in the checkout of this program: it brings all of training'


def is_installed(name: str) -> bool:
    """Whether a library can be found; it is not imported."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None


def require(*names: str) -> None:
    """Raise MissingLibraryError when a library is not installed; the message names all of them."""
    missing = [name for name in dict.fromkeys(names) if not is_installed(name)]
    if missing:
        text = f"{missing[0]} is" if len(missing) == 1 else f"{', '.join(missing)} are"
        raise MissingLibraryError(f"{text} not installed", hint=_install(missing))


@contextmanager
def translate_import_errors() -> Iterator[None]:
    """Turn the ImportError of a missing or broken library into a MissingLibraryError.

    Import errors of this program itself are not changed. The net under `require`: for libraries
    that libraries need, and for those that a part of a command needs.
    """
    try:
        yield
    except ImportError as error:
        name = _find_library(error)
        if not name:
            raise
        if isinstance(error, ModuleNotFoundError) and not is_installed(name):
            raise MissingLibraryError(f"{name} is not installed", hint=_install([name])) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise MissingLibraryError(
            f"{name} cannot be loaded: {lines[0]}", hint=_install([name], again=True)
        ) from error


def _find_library(error: ImportError) -> str:
    """The library of an ImportError; empty when it is this program or Python itself."""
    name = error.name
    if not name:  # psycopg's, where libpq is missing
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        name = str(frame.f_globals.get("__name__", ""))
    top = name.partition(".")[0]
    own = top in ("tracker", "__main__", "") or top in sys.stdlib_module_names
    return "" if own else top


def _install(names: list[str], *, again: bool = False) -> str:
    """The pip command, or advice where the package of a library is not known."""
    if not all(name in REQUIREMENTS for name in names):
        return (
            "another library needs it: install this program again (pip install . in its checkout)"
        )
    if "torch" in names and not again:  # a base install
        return INSTALL_TRAIN
    text = "pip install --force-reinstall" if again else "pip install"
    return " ".join([text, *(f'"{REQUIREMENTS[name]}"' for name in names)])
