"""Who may open a page."""

import pytest

from mpgen.errors import UserError
from mpgen.serving import MIN_TOKEN, read_token

TOKEN = "t" * MIN_TOKEN


def test_a_token_comes_from_a_file_that_is_the_owners_alone(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert read_token(f"@{file}", "0.0.0.0") == TOKEN == read_token(TOKEN, "0.0.0.0")
    file.chmod(0o640)
    with pytest.raises(UserError, match="other users can read it: chmod 600"):
        read_token(f"@{file}", "127.0.0.1")


@pytest.mark.parametrize(("held", "said"), [(None, "cannot be read"), (b"\xff", "cannot be read"), (b"\n", "is empty")])
def test_a_file_without_a_token_is_told(tmp_path, held, said):
    if held is not None:
        (tmp_path / "token").write_bytes(held)
        (tmp_path / "token").chmod(0o600)
    with pytest.raises(UserError, match=said):
        read_token(f"@{tmp_path}/token", "127.0.0.1")


def test_a_short_token_will_do_where_nobody_else_comes():
    assert read_token("short", "localhost") == "short"
    with pytest.raises(UserError, match="has 5 letters"):
        read_token("short", "0.0.0.0")
