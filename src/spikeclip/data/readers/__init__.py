"""Readers: from files and tables to a `Listing` of encoded pictures. Each knows one layout."""
