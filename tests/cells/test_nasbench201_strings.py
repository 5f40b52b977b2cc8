"""Strings of NAS-Bench-201 cells: parsed, printed, in the official order, in classes."""

import pytest

from depthsearch.cells.nasbench201_strings import EDGES, OPERATIONS, all_cells, cell_class, cell_string, parse_cell

CELLS = all_cells()


def test_every_string_survives_the_round_trip():
    assert len(set(CELLS)) == len(CELLS) == 5**6
    for string in CELLS:
        assert cell_string(parse_cell(string)) == string


def test_the_order_is_the_official_one():
    # The two that the benchmark's own code asserts, and the three best cells.
    skip, c1, c3 = "skip_connect", "nor_conv_1x1", "nor_conv_3x3"
    assert CELLS[0] == f"|avg_pool_3x3~0|+|{c1}~0|{skip}~1|+|{c1}~0|{skip}~1|{skip}~2|"
    assert CELLS[9] == f"|avg_pool_3x3~0|+|none~0|none~1|+|{skip}~0|none~1|{c3}~2|"
    assert CELLS[6111] == f"|{c3}~0|+|{c3}~0|{c3}~1|+|{skip}~0|{c3}~1|{c1}~2|"


def test_operations_stand_in_the_order_of_the_edges():
    operations = parse_cell("|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|")
    assert operations == (*OPERATIONS, "none")
    assert EDGES == ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))


def test_classes_of_isomorphic_cells():
    assert len({cell_class(string) for string in CELLS}) == 6466
    through = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|"  # a skip is what it reads
    straight = "|skip_connect~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|"
    assert cell_class(through) == cell_class(straight) == "#+#+#+(0)@nor_conv_3x3"


@pytest.mark.parametrize(
    ("string", "said"),
    [
        ("|conv_7x7~0|+|none~0|none~1|+|none~0|none~1|none~2|", "unknown operation 'conv_7x7'"),
        ("|none~0|+|none~0|none~1|", "is not a NAS-Bench-201 cell"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "is not a NAS-Bench-201 cell"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2| ", "is not a NAS-Bench-201 cell"),
        ("", "is not a NAS-Bench-201 cell"),
    ],
)
def test_other_strings_are_refused_in_one_line(string, said):
    with pytest.raises(ValueError, match=said) as error:
        parse_cell(string)
    assert "\n" not in str(error.value)
