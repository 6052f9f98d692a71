from __future__ import annotations

import re

from CMBDetectorLib.reporting.published_results import PUBLISHED_RESULTS


def test_own_row_stands_above_published_ones_in_order_of_publication(page) -> None:
    header, own, *published = page.rows["published"]
    assert own[0].text.startswith("Second network")
    assert "5 mm" in own[4].text
    assert len(published) == len(PUBLISHED_RESULTS)
    assert "cannot be compared" in page.text["published"]
    named = [re.fullmatch(r"(.+) (\d{4}) \[(\d+)\]", row[0].text) for row in published]
    years = [int(name[2]) for name in named if name]
    assert len(years) == len(published)
    assert years == sorted(years)
    sources = list(dict.fromkeys(result.source for result in PUBLISHED_RESULTS))
    for row, name, result in zip(published, named, PUBLISHED_RESULTS, strict=True):
        assert name is not None
        assert sources[int(name[3]) - 1] == result.source
        assert result.source in page.text["published"]
        assert all(row[column].text for column in (1, 4)), result
        for column, measure in enumerate(("precision", "recall", "f1"), start=5):
            value = getattr(result, measure)
            assert row[column].values == ([] if value is None else [value])
            assert value is None or 0 <= value <= 1
    assert len(header) == len(own) == len(published[0])
