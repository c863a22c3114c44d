"""Compilers: find the one that is there, install one when there is none, and say what a machine lacks.

    find      an AMD compiler that is proven to compile for the wanted targets; `find_toolchain` picks by vendor
    nvidia    nvrtc or nvcc, behind the same interface
    install   a verified compiler from the Debian archive, unpacked into the cache folder without root
    doctor    what this machine has and lacks, as data

Nothing is imported here: `deb`, `sources`, `fetch` and `archive` need only the standard library, so that `quickstart.py` can
use them before any package is installed.
"""
