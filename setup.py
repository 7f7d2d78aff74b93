"""The package's metadata; the settings of the tools are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
# Read, not imported: building a wheel must not need TensorFlow.
VERSION = re.search(
    r'^__version__ = "([^"]+)"$', (ROOT / "kdmlc_tf" / "version.py").read_text("utf-8"), re.M
)[1]

AUDIT = ["pyarrow>=15"]
SERVING = ["tensorflow-serving-api>=2.19,<2.22"]

setup(
    name="kdmlc_tf",
    version=VERSION,
    description="Lightweight classifiers from noisy labels: online distillation from a teacher "
    "trained with meta label correction, in TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["kdmlc_tf", "kdmlc_tf.*"]),
    package_data={"kdmlc_tf.audit": ["page.html"]},
    python_requires=">=3.10",
    install_requires=[
        "absl-py>=2",
        "importlib_resources",  # tensorflow-datasets imports it without requiring it
        "keras>=3.11,<4",
        "keras-cv>=0.9",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pillow>=10",
        "scikit-learn>=1.3",
        "scipy>=1.11",
        "setuptools<81",  # TensorBoard before 2.21 imports its pkg_resources
        "tensorboard>=2.19",  # TensorFlow 2.21 no longer brings it
        "tensorflow>=2.19,<2.22",
        "tensorflow-datasets>=4.9.7",
    ],
    extras_require={
        "audit": AUDIT,
        # Keras' own setup rules out TensorFlow 2.21 on a GPU.
        "gpu": ["tensorflow[and-cuda]>=2.19,<2.21"],
        "serving": SERVING,
        "test": [
            *AUDIT,
            *SERVING,
            "cleanlab>=2.6,<3",  # what audits are compared with
            "mypy>=1.18,<3",
            "openvino>=2025.0",  # reads the exported model without TensorFlow's code
            "pytest>=8.3,<10",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.15,<0.18",
        ],
    },
    entry_points={
        "console_scripts": [
            "kdmlc-train = kdmlc_tf.train:console",
            "kdmlc-audit = kdmlc_tf.audit.__main__:console",
            "kdmlc-evaluate = kdmlc_tf.evaluate:console",
            "kdmlc-export = kdmlc_tf.export:console",
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
