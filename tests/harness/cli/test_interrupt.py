import pytest
import typer

from harness.cli.interrupt import interruptible


@pytest.mark.parametrize(("rank", "said"), [(None, "interrupted; all is kept\n"), ("0", "interrupted; all is kept\n"),
                                            ("1", "")])  # fmt: skip
def test_ctrl_c_ends_a_command_with_130_and_one_process_says_what_is_left(rank, said, monkeypatch, capsys):
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(typer.Exit) as ended, interruptible("all is kept"):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == said


def test_another_error_passes():
    with pytest.raises(ZeroDivisionError), interruptible("all is kept"):
        _ = 1 // 0
