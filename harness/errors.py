"""Errors that end a command with one clear message instead of a traceback.

Exception
 ├── UserError       exit 3: a file, flag, variable or URL is wrong; the user can mend it
 └── MissingPart     exit 4: a program or package that the run needs is not installed
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EROFS, errno.ENOTDIR)
NOT_ALLOWED = (errno.EACCES, errno.EPERM)


class UserError(Exception):
    """A user's mistake: says what was expected, what came, where, and what to do."""


class MissingPart(Exception):
    """A needed part is absent: names it and the command that installs it."""


def unwritable(error: OSError) -> str | None:
    """Return what to do when the machine takes no more files; None for any other error."""
    if error.errno in NO_ROOM:
        advice = "Make room, or name a folder elsewhere (`--reports`)"
    elif error.errno in NOT_WRITABLE:
        advice = "Expected a folder in which files can be made; `--reports` names another"
    elif error.errno in NOT_ALLOWED and error.filename:
        advice = "See whose it is: `ls -ld`. For reports, `--reports` names another folder"
    else:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}. {advice}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as a question, with a space after it; empty when none is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`? " if near else ""
