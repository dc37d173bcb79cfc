"""`python -m harness.load.process`: the entry of a load process.

Patches the interpreter before anything else is imported: Locust runs on gevent, and a module that
took an unpatched socket or lock with it would block every user of the process.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402  # after the patch
import sys  # noqa: E402  # after the patch
from pathlib import Path  # noqa: E402  # after the patch

from harness.deploy.folder import RunFolder  # noqa: E402  # after the patch
from harness.load.generator import main  # noqa: E402  # after the patch


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="harness.load.process", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--number", type=int, required=True, help="this process, from 0")
    parser.add_argument("--of", type=int, required=True, help="how many processes there are")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _arguments()
    sys.exit(main(RunFolder(arguments.run), arguments.number, arguments.of))
