"""A condition chooses files, and does nothing else: no function that takes all memory, no values told in an error."""

import numpy as np
import pytest
from indexed_photos import draw

from spikeclip.errors import InputError
from spikeclip.search import Index


@pytest.fixture(scope="module")
def made(tmp_path_factory, shipped):
    place = tmp_path_factory.mktemp("where")
    for i in range(6):
        draw(place / "photos" / f"{i}.png", i)
    index = Index.create(place / "db", shipped)
    index.add(shipped, [place / "photos"])
    return index


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("path LIKE '%2.png' or path ilike '%/3.PNG'", 2),
        ("NOT ends_with(lower(path), '1.png') AND width BETWEEN 60 AND 61", 5),
        ("contains(path, 'it''s')", 0),
        ("size > -1 and size <> 0 and (size % 2 = 0 or size % 2 = 1) and mtime is not null", 6),
        ("1" + "+1" * 240 + "=241", 6),
        ("width IN (" + "1, " * 5000 + "60)", 6),
    ],
)
def test_comparisons_choose_pictures(made, where, found):
    assert len(made.search(np.ones(made.dim), where=where)) == found


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("array_repeat(path, 1000000000) is null", "it has no 'array_repeat'"),  # ends the process
        ("length(lpad(path, 200000000)) > 2", "it has no 'lpad'"),
        ("b'a' = path", "it has no 'b'"),
        ("path::int = 1", "'::int = 1' has no meaning"),
        ("CAST(path AS INT) = 1", "it has no 'CAST'"),
        ("path = size", "it cannot be worked out for every row"),
        ("width / 0 = 1", "it cannot be worked out for every row"),
        ("true; DROP TABLE pictures", "'; DROP TABLE picture' has no meaning"),
        ("true -- or not", "'-- or not' has no meaning"),
        ("path IN (SELECT path FROM unreadable)", "it has no 'SELECT'"),
        ("(" * 400 + "true" + ")" * 400, "cannot be used"),
        ("path LIKE '%2024", "has no meaning"),
        ("width", "does not return a boolean"),
        ("", "cannot be used"),
        ("1" + "+1" * 1000 + "=1001", "the bound is 250"),  # ends the process
    ],
)  # fmt: skip
def test_all_else_is_refused_in_one_line_that_tells_no_path(made, where, said):
    with pytest.raises(InputError) as refused:
        made.search(np.ones(made.dim), where=where)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(made.folder.parent) not in str(refused.value)
    assert len(str(refused.value)) < 1000
