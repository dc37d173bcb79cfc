"""The command line: exit codes, messages without tracebacks, and who is called with what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from report_run import judgement, write_run

from harness import cli, commands
from harness.errors import MissingPart, UserError
from harness.options import RunOptions, RunResult
from harness.verdict import EXIT_CODES, ExitCode

STORY = "Users would see nothing at all if this one failed. Truly."
FILE = f"name: tiny\nstory: {STORY}\ntopology: standalone\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each test has its own folder with one scenario, and gets SIGTERM's handler back."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "tiny.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Runs:
    """Stands in for the conductor: returns or raises what the test wants, and notes its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *results: Any) -> None:
        self.results = list(results)
        self.calls: list[tuple[Path, RunOptions]] = []
        monkeypatch.setitem(sys.modules, "harness.run", SimpleNamespace(run_scenario=self.run))

    async def run(self, path: Path, options: RunOptions, _progress: Any) -> RunResult:
        """Do what `run_scenario` would."""
        self.calls.append((path, options))
        result = self.results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result


def result(code: ExitCode, planted: bool = False) -> RunResult:
    """Return a result as the conductor would."""
    return RunResult(None, judgement(planted), None, code)


def test_help_tells_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` prints the exit codes word for word and lists every command."""
    assert cli.invoke(["--help"]) == ExitCode.AS_EXPECTED
    out = capsys.readouterr().out
    assert EXIT_CODES.strip() in out
    for command in ("run", "repeat", "list", "validate", "check", "doctor", "clean", "version"):
        assert f"\n  {command} " in out


def test_help_imports_nothing_heavy() -> None:
    """Help is quick because no library of the stages is imported for it."""
    code = (
        "import sys, harness.cli; harness.cli.invoke(['run', '--help']);"
        "heavy = {'pydantic', 'rich', 'jinja2', 'redis', 'asyncio', 'yaml'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "tiny", "--seed", "x"],
        ["run", "tiny", "--nonsense"],
        ["run", "tyni"],
        ["run", "absent.yaml"],
        ["run", "tiny", "--set", "load.users"],
        ["run", "tiny", "--set", "load.uesrs=3"],
        ["run", "tiny", "--users", "0"],
        ["check", "latest"],
        ["validate", "absent.yaml"],
    ],
    ids=" ".join,
)
def test_users_mistake_exits_3(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake of the user exits 3, never the parser's own 2, with a message on stderr."""
    assert cli.invoke(arguments) == ExitCode.USER_ERROR
    captured = capsys.readouterr()
    assert captured.err.strip()
    assert "Traceback" not in captured.err


def test_nearest_scenario_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt scenario is answered with the nearest name."""
    cli.invoke(["run", "tyni"])
    assert "did you mean `tiny`?" in capsys.readouterr().err


def test_run_passes_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option of `run` reaches the conductor."""
    runs = Runs(monkeypatch, result(ExitCode.AS_EXPECTED))
    code = cli.invoke(
        [
            "run",
            "tiny",
            "--seed",
            "5",
            "--workers",
            "2",
            "--users",
            "9",
            "--set",
            "focus.stops_per_s=1.5",
            "--target-command",
            "python -m x",
            "--keep-data",
            "--quiet",
            "--reports",
            "elsewhere",
        ]
    )
    assert code == ExitCode.AS_EXPECTED
    [(path, options)] = runs.calls
    assert path == Path("scenarios/tiny.yaml")
    assert options == RunOptions(
        seed=5,
        workers=2,
        users=9,
        target_command="python -m x",
        reports=Path("elsewhere"),
        keep_data=True,
        overrides={"focus.stops_per_s": 1.5},
    )


def test_run_ends_with_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A red run ends with its broken guarantees, the verdict and the report's path, and exits 1."""
    run = write_run(tmp_path / "r")
    red = RunResult(run, judgement(), None, ExitCode.NOT_AS_EXPECTED)
    Runs(monkeypatch, red)
    assert cli.invoke(["run", "tiny", "--quiet"]) == ExitCode.NOT_AS_EXPECTED
    out = capsys.readouterr().out
    assert "✖ fail" in out
    assert "1 acknowledged stop stopped nothing" in out
    assert "✖ FAIL tiny: 2 of 4 guarantees broken" in out
    assert out.rstrip().endswith(str(run.root / "report.html"))


def test_worst_exit_code_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several scenarios, red beats unknown beats green."""
    codes = [ExitCode.AS_EXPECTED, ExitCode.NOT_AS_EXPECTED, ExitCode.UNKNOWN]
    Runs(monkeypatch, *map(result, codes))
    assert cli.invoke(["run", "tiny", "tiny", "tiny", "--quiet"]) == ExitCode.NOT_AS_EXPECTED


def test_skipped_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A skipped scenario is named with its reason and does not spoil the others' exit code."""
    Runs(monkeypatch, RunResult.skip("Toxiproxy is missing"), result(ExitCode.AS_EXPECTED))
    assert cli.invoke(["run", "tiny", "tiny", "--quiet"]) == ExitCode.AS_EXPECTED
    assert "SKIPPED tiny: Toxiproxy is missing" in capsys.readouterr().out


def test_all_skipped_exits_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing ran because a part is missing, the exit code is 4, never 0."""
    Runs(monkeypatch, RunResult.skip("x"), MissingPart("redis-server: not found"))
    assert cli.invoke(["run", "tiny", "tiny", "--quiet"]) == ExitCode.MISSING_PART


def test_all_files_are_read_before_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the last scenario is told before the first one runs."""
    runs = Runs(monkeypatch)
    Path("bad.yaml").write_text(FILE + "nonsense: 1\n")
    assert cli.invoke(["run", "tiny", "bad.yaml"]) == ExitCode.USER_ERROR
    assert runs.calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("subnet taken"), ExitCode.USER_ERROR),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (RuntimeError("boom"), ExitCode.UNKNOWN),
    ],
)
def test_errors_of_a_run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: ExitCode,
) -> None:
    """What a run raises becomes one message and its exit code, never a traceback."""
    monkeypatch.setattr("tempfile.tempdir", str(Path.cwd()))
    Runs(monkeypatch, error)
    assert cli.invoke(["run", "tiny", "--quiet"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_unforeseen_error_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An error nobody foresaw is one line that names the file with the traceback."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Runs(monkeypatch, RuntimeError("boom"))
    cli.invoke(["run", "tiny", "--quiet"])
    [log] = tmp_path.glob("harness-crash-*.log")
    assert str(log) in capsys.readouterr().err
    assert "RuntimeError: boom" in log.read_text()


def test_sigterm_cleans_up_like_ctrl_c() -> None:
    """SIGTERM cancels the run, whose clean-up runs to its end, and exits 130."""
    code = (
        "import asyncio, os, signal, sys, types\n"
        "from harness import cli\n"
        "async def run(*_):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        await asyncio.Event().wait()\n"
        "    finally:\n"
        "        await asyncio.sleep(0)\n"
        "        print('cleaned up')\n"
        "sys.modules['harness.run'] = types.SimpleNamespace(run_scenario=run)\n"
        "sys.exit(cli.invoke(['run', 'tiny', '--quiet']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=30
    )
    assert done.returncode == ExitCode.INTERRUPTED, done.stderr
    assert done.stdout == "cleaned up\n"
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr


def test_plan_only_prints_the_same_bytes(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """`--plan-only` prints the plan that a run would save: same seed, same bytes."""
    outputs = []
    for _ in range(2):
        assert cli.invoke(["run", "tiny", "--seed", "3", "--plan-only"]) == 0
        outputs.append(capsysbinary.readouterr().out)
    assert outputs[0] == outputs[1]
    assert b'"seed": 3' in outputs[0]


def test_list_tells_names_and_stories(capsys: pytest.CaptureFixture[str]) -> None:
    """`list` shows name, topology and the first sentence of the story."""
    assert cli.invoke(["list"]) == ExitCode.AS_EXPECTED
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "standalone" in out
    assert "Users would see nothing at all if this one failed." in out


def test_validate_tells_every_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """`validate` checks all files, names line and nearest key, and exits 3 for any mistake."""
    Path("bad.yaml").write_text(FILE + "workres: 3\n")
    assert cli.invoke(["validate", "bad.yaml", "tiny"]) == ExitCode.USER_ERROR
    captured = capsys.readouterr()
    assert "bad.yaml:4: workres: unknown key; did you mean `workers`?" in captured.err
    assert "tiny.yaml: valid" in captured.out


def test_check_judges_a_saved_run_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`check latest` judges the saved run, writes its reports anew and exits with its verdict."""
    run = write_run(tmp_path / "reports" / "one")
    (tmp_path / "reports" / "latest").symlink_to("one")

    async def judge(judged: Any, seconds: float) -> Any:
        assert (judged.root, seconds) == (run.root, 9.0)
        return judgement()

    monkeypatch.setattr("harness.checks.judge.judge_in_process", judge, raising=False)
    assert cli.invoke(["check", "latest", "--timeout", "9"]) == ExitCode.NOT_AS_EXPECTED
    assert (run.root / "report.html").exists()
    assert "2 of 4 guarantees broken" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`version` prints the installed version."""
    assert cli.invoke(["version"]) == ExitCode.AS_EXPECTED
    assert capsys.readouterr().out.strip().count(".") == 2


def test_seed_is_drawn_when_absent() -> None:
    """Without `--seed` runs differ, and the drawn seed is what is saved."""
    assert len({commands.options().seed for _ in range(20)}) > 1
