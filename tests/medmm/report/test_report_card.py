"""Model cards as blocks: what a reader of the report sees of them."""

from medmm.report.card import MAX_LETTERS, MAX_ROWS, excerpt, excerpts


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


def test_later_tables_give_way_to_the_first_and_keep_their_text() -> None:
    table = "| n |\n|---|\n" + "\n".join(f"| {n} |" for n in range(MAX_ROWS - 1))

    found = excerpts({"Results": f"Out of fold.\n\n{table}", "Ablation": f"In pairs.\n\n{table}", "Sites": table})

    assert not found["Results"].is_cut
    assert [len(block.rows) for block in found["Ablation"].blocks] == [0, 2]
    assert found["Ablation"].is_cut
    assert found["Sites"].blocks == () and found["Sites"].is_cut


def test_empty_section_has_one_empty_line() -> None:
    assert [block.lines for block in excerpt("").blocks] == [("",)]
