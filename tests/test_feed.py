"""Windows from a device's copy of the text are those of the corpus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from charrnn.text.streams import Streams
from charrnn.training import feed
from charrnn.training.feed import DeviceFeed, Feed, make_feed, smallest

CPU = torch.device("cpu")


def streams(batch_size, seq_len=7, symbols=5, documents=0.02, size=1003, start=17, stop=990):
    noise = np.random.default_rng(batch_size)
    places = noise.integers(1, symbols + 1, size).astype(np.uint16)
    places[noise.random(size) < documents] = 0
    # ids are no places: the table reverses them, and leaves the boundary
    table = np.concatenate([[0], np.arange(symbols, 0, -1)])
    return Streams(places, table, start, stop, batch_size, seq_len)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("symbols", [5, 255, 256, 40_000])
def test_windows_equal_the_corpus(batch_size, symbols, monkeypatch):
    monkeypatch.setattr(feed, "STRETCH", 100)
    source = streams(batch_size, symbols=symbols)
    held = DeviceFeed(source, CPU)
    for position in range(0, source.row_length, 5):
        for length in (1, 7, 50):
            ids, targets = source.read(position, length)
            mine, wanted, inside = held.read(position, length)
            assert mine.dtype == wanted.dtype == torch.int64
            assert np.array_equal(mine.numpy(), ids) and np.array_equal(wanted.numpy(), targets)
            assert inside == (ids[:, 1:] == 0).any()
            assert inside == Feed(source, CPU).read(position, length)[2]
    for position in (-1, source.row_length):
        with pytest.raises(IndexError):
            held.read(position, 1)


@pytest.mark.parametrize("rows", [range(0, 4), range(5, 12), range(31, 32)])
def test_some_rows_are_held_without_the_others(rows):
    source = replace(streams(32), rows=rows)
    held = DeviceFeed(source, CPU)
    assert held.rows.untyped_storage().nbytes() == len(rows) * source.row_length + 1
    for position in range(0, source.row_length, 5):
        ids, targets = source.read(position, 7)
        mine, wanted, inside = held.read(position, 7)
        assert np.array_equal(mine.numpy(), ids) and np.array_equal(wanted.numpy(), targets)
        assert inside == (ids[:, 1:] == 0).any()


def test_the_copy_is_as_small_as_can_be():
    found = [DeviceFeed(streams(2, symbols=n), CPU).rows.dtype for n in (5, 255, 256, 32_767, 32_768)]
    assert found == [torch.uint8, torch.uint8, torch.int16, torch.int16, torch.int32]
    assert smallest(np.array([0, 300])) == torch.int16


def test_a_text_that_the_device_cannot_hold_comes_from_the_corpus(monkeypatch):
    made = []
    monkeypatch.setattr(feed, "DeviceFeed", lambda *_: made.append("device"))
    monkeypatch.setattr(feed, "Feed", lambda *_: made.append("corpus"))
    for free in (4 * 973, 4 * 973 - 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10**12))
        make_feed(streams(3), torch.device("cuda"))
    make_feed(streams(3), CPU)
    assert made == ["device", "corpus", "corpus"]
