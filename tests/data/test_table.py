"""Tables as spreadsheets and scripts write them."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpgen.data.table import find_encoding, read_rows
from mpgen.errors import UserError


@pytest.fixture
def rows(tmp_path):
    """Number and cells of the rows of a table with such content, and its first problem."""

    def read(content: str | bytes, *required: str):
        path = tmp_path / "table.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(read_rows(path, required))

    return read


def test_cells_go_by_the_name_of_their_column_without_blanks_around(rows):
    (row,) = rows("b, a \n x ,y\n", "a")
    assert (row.number, row.cells, row.problem) == (2, {"b": "x", "a": "y"}, "")


def test_unnamed_trailing_columns_and_rows_of_commas_are_passed_over(rows):
    found = rows("id,caption,,\r\n1,x,,\r\n,,,\r\n\r\n2,y,,\r\n,,,\r\n")
    assert [(row.number, row.cells) for row in found] == [
        (2, {"id": "1", "caption": "x"}),
        (5, {"id": "2", "caption": "y"}),
    ]


def test_a_row_without_its_unnamed_trailing_cells_is_whole(rows):
    assert rows("id,caption,,\n1,x\n")[0].problem == ""


@pytest.mark.parametrize("line", ["1", "1,x,y", "1,x, a walk, in rain"])
def test_a_row_of_another_width_has_a_problem_and_cells_none_the_less(rows, line):
    (row,) = rows(f"id,caption\n{line}\n")
    assert "cells, wanted 2; a comma needs quotes" in row.problem
    assert row.cells["id"] == "1"


def test_ids_stay_the_text_that_they_are(rows):
    assert [row.cells["id"] for row in rows("id\n12.1\n12.10\n0012\n1e5\n")] == ["12.1", "12.10", "0012", "1e5"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(rows):
    assert rows("id\n1\n".encode("utf-8-sig"), "id")[0].cells == {"id": "1"}


def test_what_is_not_utf_8_is_read_as_cp1252_to_the_last_byte(rows, tmp_path):
    late = b"id\n" + b"x" * 1_200_000 + b"\n" + "café “quoted”\n".encode("cp1252")
    assert rows(late)[-1].cells["id"] == "café “quoted”"
    assert find_encoding(tmp_path / "table.csv") == "cp1252"


def test_a_letter_cut_by_the_end_of_the_file_is_not_utf_8(tmp_path):
    (tmp_path / "cut.csv").write_bytes("id\né".encode()[:-1])
    assert find_encoding(tmp_path / "cut.csv") == "cp1252"


def test_bytes_that_cp1252_does_not_have_become_the_replacement_letter(rows):
    assert rows(b"id\n\x81 \xe9\n")[0].cells["id"] == "\ufffd é"


def test_a_letter_of_several_bytes_may_lie_across_the_blocks_that_are_read(rows, tmp_path):
    content = "id\n" + "x" * ((1 << 20) - 4) + "é円\n"
    assert rows(content)[0].cells["id"].endswith("xé円")
    assert find_encoding(tmp_path / "table.csv") == "utf-8-sig"


def test_a_huge_field_is_read(rows):
    assert len(rows(f'id,caption\n1,"{"x, " * 100_000}"\n')[0].cells["caption"]) == 299_999


def test_a_zero_byte_is_a_letter_like_others(rows):
    assert rows("id\na\0b\n")[0].cells["id"] == "a\0b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column id; its columns are none"),
        ("name,caption\n1,2\n", "has no column id; its columns are name, caption"),
        ("id,x,id\n1,2,3\n", "has the column 'id' more than once"),
        ("id\ttext\n1\t2\n", "has no column id"),
    ],
)
def test_a_table_of_another_kind_is_told_at_once(rows, content, message):
    with pytest.raises(UserError, match=message):
        rows(content, "id")


text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.tuples(text, text, text), max_size=8),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_text_that_a_csv_writer_writes_comes_back(rows, table, encoding, end):
    """Commas, quotes, line ends, any script: but for blanks around a cell and rows of nothing else."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b", "c", ""])
    writer.writerows([*cells, ""] for cells in table)
    found = rows(out.getvalue().encode(encoding))
    wanted = [tuple(cell.strip() for cell in cells) for cells in table]
    assert [tuple(row.cells.values()) for row in found] == [cells for cells in wanted if any(cells)]
    assert not any(row.problem for row in found)
