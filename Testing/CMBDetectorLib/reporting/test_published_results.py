from __future__ import annotations

from CMBDetectorLib.reporting.published_results import PUBLISHED_RESULTS


def test_own_row_stands_above_published_ones_in_order_of_publication(page) -> None:
    header, own, *published = page.rows["published"]
    assert own[0].text == "Second network"
    assert "5 mm" in own[5].text
    assert len(published) == len(PUBLISHED_RESULTS)
    assert "cannot be compared" in page.text["published"]
    years = [int(row[0].text[-4:]) for row in published]
    assert years == sorted(years)
    for row, result in zip(published, PUBLISHED_RESULTS, strict=True):
        assert all(row[column].text for column in (1, 2, 5)), result
        for column, name in enumerate(("precision", "recall", "f1"), start=6):
            value = getattr(result, name)
            assert row[column].values == ([] if value is None else [value])
            assert value is None or 0 <= value <= 1
    assert len(header) == len(own) == len(published[0])
