"""Curation: from published tables and folders of videos to scores, and from scores to a manifest to train on."""
