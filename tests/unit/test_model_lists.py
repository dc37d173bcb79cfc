"""Several providers' models become one list."""

from __future__ import annotations

import pytest

from runtime.models.lists import ListError, connections, merged, ordered, parsed


def test_first_provider_wins_and_prefixes_keep_both() -> None:
    """One id of two providers is the first one's; with a prefix both are there."""
    two = connections(["http://a/v1", "http://b/v1"], ["k"], {})
    lists = [[{"id": "m"}], [{"id": "m"}, {"id": "n", "name": "N"}]]
    assert [(m["id"], m["urlIdx"]) for m in merged(two, lists)] == [("m", 0), ("n", 1)]
    assert [one.key for one in two] == ["k", ""]
    options = {"1": {"prefix_id": "b", "tags": [{"name": "t"}]}}
    found = merged(connections(["http://a/v1", "http://b/v1"], [], options), lists)
    assert [m["id"] for m in found] == ["m", "b.m", "b.n"]
    assert found[2] == {
        "id": "b.n",
        "name": "N",
        "owned_by": "openai",
        "openai": {"id": "n", "name": "N"},
        "connection_type": "external",
        "urlIdx": 1,
        "tags": [{"name": "t"}],
    }


def test_options_are_found_by_place_and_by_url() -> None:
    """Newer clients write the position, older ones the URL."""
    found = connections(["http://a", "http://b"], [], {"http://b": {"enable": False}})
    assert [one.options.enable for one in found] == [True, False]


def test_openai_lists_only_chat_models() -> None:
    """Of api.openai.com embeddings and voices are left out, of others nothing is."""
    lists = [[{"id": "gpt-5"}, {"id": "tts-1"}, {"id": "text-embedding-3"}]]
    assert len(merged(connections(["https://api.openai.com/v1"], [], {}), lists)) == 1
    assert len(merged(connections(["http://local/v1"], [], {}), lists)) == 3


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error": "x"}', b"7", b"<html>"])
def test_an_answer_that_is_no_list_is_an_error(body: bytes) -> None:
    """A provider that answers nonsense counts as failed."""
    with pytest.raises(ListError):
        parsed(body)


def test_entries_that_are_no_models_are_left_out() -> None:
    """An odd entry does not cost the whole list."""
    assert parsed(b'[{"id": "a"}, {}, 7, {"name": "b"}]') == [{"id": "a"}, {"name": "b"}]


def test_order_puts_named_models_first() -> None:
    """Ids of the order come first, in it; the others follow by name."""
    models = [{"id": n, "name": n.upper()} for n in ("d", "a", "c", "b")]
    assert [m["id"] for m in ordered(models, ["c", "gone", "b"])] == ["c", "b", "a", "d"]
    assert ordered(models, []) == models
