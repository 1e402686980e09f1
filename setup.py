"""The packages of a wheel: nothing but `reclaim` lies at its top; checks/ and fixers/ of the checkout go below it."""

from setuptools import find_packages, setup

SHIPPED = ("checks", "fixers")

setup(
    packages=[
        *find_packages(include=["reclaim", "reclaim.*"]),
        *(f"reclaim.shipped.{name}" for name in SHIPPED),
    ],
    # docs/reclaim.1 is written by tests/unit/test_manual.py
    data_files=[("share/man/man1", ["docs/reclaim.1"])],
    package_dir={f"reclaim.shipped.{name}": name for name in SHIPPED},
)
