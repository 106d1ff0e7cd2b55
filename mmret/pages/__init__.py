"""Folders of documents: their pages as images, texts and outlines, and every failing page by its name.

A page is named by its file and its number from 0, as in `handbook.pdf#3` (`documents.page_id`).
"""
