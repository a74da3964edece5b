"""Model cards as blocks: what a reader of the report sees of them."""

from medmm.report.card import MAX_LETTERS, MAX_ROWS, excerpt


def test_text_lists_and_tables_become_blocks() -> None:
    card = "Some **bold** `code`\nover lines.\n\n- one\n  more\n- two\n\n| a | b |\n|---|--:|\n| 1 | 2 |"

    blocks = excerpt(card).blocks

    assert blocks[0].lines == ("Some bold code over lines.",)
    assert blocks[1].lines == ("one more", "two")
    assert blocks[2].rows == (("a", "b"), ("1", "2"))


def test_what_is_left_out_is_said() -> None:
    rows = "\n".join(f"| {n} |" for n in range(MAX_ROWS + 5))

    assert excerpt(f"| n |\n|---|\n{rows}").is_cut
    assert excerpt("word " * MAX_LETTERS).is_cut
    assert excerpt("\n\n".join(["word " * 100] * 9)).is_cut
    assert not excerpt("short").is_cut


def test_empty_section_has_one_empty_line() -> None:
    assert [block.lines for block in excerpt("").blocks] == [("",)]
