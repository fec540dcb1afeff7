"""Token files: what a line may be, who a token belongs to, and rotation that never locks everybody out."""

import os
from pathlib import Path

import pytest

from worker.errors import ConfigError
from worker.operation.tokens import Caller, Role, Tokens, read_tokens
from worker.settings.groups import Auth

ONE = "one-token-of-some-length-0001"
TWO = "two-token-of-some-length-0002"


def write(path: Path, text: str) -> Path:
    """Writes a token file as an operator should, whole at once and readable by its owner only."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o600)
    return new.replace(path)


def test_lines_of_a_file(tmp_path: Path) -> None:
    """Comments and empty lines are skipped; a name may stand before the token."""
    path = write(tmp_path / "t", f"# who may embed\n\n{ONE}\n search   {TWO}  # until May\n")
    assert [token.name for token in read_tokens(path)] == ["", "search"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "holds no token"), ("# none\n\n", "holds no token"), (f"a b {ONE}", "line 1 .* has 3 words")],
)
def test_file_without_tokens_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """An empty file neither lets everybody in nor nobody: the server does not start. No token is shown."""
    with pytest.raises(ConfigError, match=words) as refused:
        Tokens(Auth(token_file=write(tmp_path / "t", text)))
    assert ONE not in str(refused.value)


def test_missing_file_and_binary_file_are_named(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(ConfigError, match=r"cannot read the token file .*missing"):
        Tokens(Auth(token_file=tmp_path / "missing"))
    (tmp_path / "t").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Tokens(Auth(token_file=tmp_path / "t"))


def test_who_a_token_belongs_to(tmp_path: Path) -> None:
    """Each token knows its name and its role; an administrator's is the stronger one; all else is nobody."""
    tokens = Tokens(
        Auth(
            write(tmp_path / "t", f"search {ONE}\n{TWO}\n"),
            admin_token_file=write(tmp_path / "a", f"root {TWO}"),
        )
    )
    assert tokens.caller(f"Bearer {ONE}") == Caller("search", Role.EMBED)
    assert tokens.caller(f"bearer {TWO}") == Caller("root", Role.ADMIN)
    for wrong in (
        "",
        "Bearer",
        "Bearer ",
        ONE,
        f"Basic {ONE}",
        f"Bearer {ONE[:-1]}",
        f"Bearer {ONE}x",
        "\udcff",
    ):
        assert tokens.caller(wrong) is None


def test_new_file_is_taken_up_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After rotation the old token is nobody's; an empty or missing file keeps the tokens of before."""
    path = write(tmp_path / "t", ONE)
    tokens = Tokens(Auth(token_file=path))
    write(path, TWO)
    tokens.look()
    assert tokens.caller(f"Bearer {ONE}") is None
    assert tokens.caller(f"Bearer {TWO}") is not None
    write(path, "# nobody\n")
    for _ in range(3):
        tokens.look()
    assert tokens.caller(f"Bearer {TWO}") is not None
    path.unlink()
    tokens.look()
    assert tokens.caller(f"Bearer {TWO}") is not None
    failures = [record for record in caplog.records if "rotation failed" in record.getMessage()]
    assert len(failures) == 2  # once for each broken state, not for each look
    assert TWO not in caplog.text


def test_file_that_others_may_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A secret that other users can read is one line of warning, a short token too."""
    path = write(tmp_path / "t", ONE)
    read_tokens(path)
    assert not caplog.records
    path.chmod(0o644)
    read_tokens(path)
    assert "chmod 600" in caplog.text
    write(path, "short")
    read_tokens(path)
    assert "token is short" in caplog.text
    assert "'short'" not in caplog.text


def test_link_that_is_switched_is_a_new_file(tmp_path: Path) -> None:
    """Kubernetes rotates a secret by switching a link: that is seen although the link's name stays."""
    for name, token in (("old", ONE), ("new", TWO)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "t", token)
    (tmp_path / "data").symlink_to("old")
    tokens = Tokens(Auth(token_file=tmp_path / "data" / "t"))
    (tmp_path / "next").symlink_to("new")
    os.replace(tmp_path / "next", tmp_path / "data")  # noqa: PTH105  as Kubernetes does
    tokens.look()
    assert tokens.caller(f"Bearer {TWO}") is not None
