"""Readers: from files and tables to a `Listing` of encoded pictures. Each reads one layout."""
