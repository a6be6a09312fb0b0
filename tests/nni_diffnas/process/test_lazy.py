"""What is imported or listed only when it is needed."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from nni_diffnas.process.lazy import absent, lazy_names, listing_deferred


def test_a_name_is_imported_when_it_is_used() -> None:
    get = lazy_names("nni_diffnas", {"Space": ".api.space"})
    assert get("Space").__module__ == "nni_diffnas.api.space"
    with pytest.raises(AttributeError, match="'nni_diffnas' has no attribute 'Nothing'"):
        get("Nothing")


def test_an_absent_module_is_not_found_until_the_block_ends() -> None:
    assert "sndhdr" not in sys.modules
    with absent("sndhdr"), pytest.raises(ModuleNotFoundError):
        __import__("sndhdr")
    assert "sndhdr" not in sys.modules


def test_a_deferred_listing_says_what_the_listing_says() -> None:
    at_once = metadata.packages_distributions
    with listing_deferred():
        listing = metadata.packages_distributions()
    assert metadata.packages_distributions is at_once
    assert not isinstance(listing, dict)
    assert "torch" in listing
    assert dict(listing) == at_once()
