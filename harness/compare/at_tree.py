"""Runs the runtime of another tree: `python at_tree.py TREE serve …`. Imports nothing of ours."""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    sys.path[0] = sys.argv.pop(1)  # in the place of this file's own folder
    runpy.run_module("runtime", run_name="__main__", alter_sys=True)
