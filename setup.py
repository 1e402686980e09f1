"""The packages of a wheel: nothing but `reclaim` lies at its top; checks/ and fixers/ of the checkout go below it."""

from setuptools import find_packages, setup

SHIPPED = ("checks", "fixers")

setup(
    packages=[
        *find_packages(include=["reclaim", "reclaim.*"]),
        *(f"reclaim.shipped.{name}" for name in SHIPPED),
    ],
    package_dir={f"reclaim.shipped.{name}": name for name in SHIPPED},
)
