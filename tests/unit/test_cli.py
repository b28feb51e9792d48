"""The console command: which word does what, and how a person's mistakes end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mask2former_ext import __version__, cli
from mask2former_ext.commands import mistakes, train
from mask2former_ext.config import load_config
from mask2former_ext.needed import WAYS_TO_DETECTRON2
from tests.places import ROOT


def test_help_and_mistakes_of_spelling_load_nothing_heavy():
    code = (
        "import sys; from mask2former_ext import cli; cli.main([]); print(sorted({'torch', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.endswith("[]\n"), done.stderr
    assert all(f"\n  {word} " in done.stdout for word in cli.COMMANDS)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"mask2former-ext {__version__}\n"


@pytest.mark.parametrize(("word", "hint"), [("trayn", "did you mean 'train'?"), ("xyz", "there are train, eval")])
def test_a_word_that_is_no_command_is_told_with_the_nearest(word, hint, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([word])
    assert f"mask2former-ext: error: there is no command {word!r}; {hint}" in capsys.readouterr().err


@pytest.mark.parametrize("word", cli.COMMANDS)
def test_each_command_has_help_under_its_own_name(word, capsys):
    if word == "web":
        pytest.importorskip("gradio", reason="gradio is not installed (the extra `web`)")
    with pytest.raises(SystemExit, match="0"):
        cli.main([word, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: mask2former-ext {word} ")


def test_eval_is_what_train_net_does_with_eval_only(monkeypatch):
    given = []
    monkeypatch.setattr(train, "launch", lambda _, args: given.append(args))
    assert cli.main(["eval", "--config", "a.yaml", "--weights", "b.pth", "SEED", "1"]) == 0
    (args,) = given
    assert args.eval_only and (args.config_file, args.weights, args.opts) == ("a.yaml", "b.pth", ["SEED", "1"])


def test_a_mistake_ends_in_one_sentence_and_exit_code_2(capfd):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", "--config", "nowhere.yaml"])
    assert capfd.readouterr().err.startswith("mask2former-ext train: error: nowhere.yaml: no such config file")


WITHOUT_DETECTRON2 = "import sys; sys.modules['detectron2'] = None; "


def said_without_detectron2(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", WITHOUT_DETECTRON2 + code], capture_output=True, text=True, cwd=ROOT)


def test_without_detectron2_the_import_says_in_a_line_how_to_get_one():
    done = said_without_detectron2("import mask2former_ext")
    assert (done.returncode, done.stderr) == (0, f"{WAYS_TO_DETECTRON2}\n")
    assert "pip install mask2former-ext-embedded-detectron2" in done.stderr and "git+https" in done.stderr


def test_without_detectron2_env_still_reports():
    done = said_without_detectron2("from mask2former_ext.cli import main; sys.exit(main(['env']))")
    assert done.returncode == 0 and done.stderr == f"{WAYS_TO_DETECTRON2}\n"
    assert "\n  Detectron2               none\n" in done.stdout


def test_without_detectron2_the_other_commands_stop_with_exit_code_2():
    done = said_without_detectron2("from mask2former_ext.cli import main; sys.exit(main(['train']))")
    expected = f"{WAYS_TO_DETECTRON2}\nmask2former-ext train: error: this needs Detectron2\n"
    assert (done.returncode, done.stderr) == (2, expected)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_data_that_are_not_there_are_told_once_before_processes_start(processes, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        sys.exit(cli.main(["train", "--config", "mask2former/tiny", "--num-gpus", processes, "MODEL.DEVICE", "cpu"]))
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    wrong = "data set 'shapes_train': its images are not there: no folder datasets/shapes/train/images"
    todo = "`python -m mask2former_ext.commands.make_shapes --output datasets/shapes` draws them"
    assert line == f"mask2former-ext train: error: {wrong}; {todo}"


def error_of(work) -> Exception:
    with pytest.raises((ValueError, OSError)) as caught:
        work()
    return caught.value


def test_a_sentence_of_the_package_is_a_mistake_and_another_error_is_not():
    ours = error_of(lambda: load_config(str(ROOT / "configs/mask2former/tiny.yaml"), ["NO.SUCH_KEY", 1]))
    no_file, of_python = error_of(lambda: open(ROOT / "nowhere")), error_of(lambda: int("x"))
    assert [mistakes.is_mistake(error) for error in (ours, no_file, of_python)] == [True, True, False]


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(ValueError, match="invalid literal"):
        mistakes.told("train_net.py", lambda: int("x"))
