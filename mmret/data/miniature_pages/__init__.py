"""Generated pages: screenshots of titles, paragraphs, tables, charts and icons, with questions about them."""

from mmret.data.miniature_pages.draw import draw_page
from mmret.data.miniature_pages.page import WORDS, Page
from mmret.data.miniature_pages.world import (
    PageImages,
    PageQuestion,
    pages_benchmark,
    pages_of,
    questions_of,
    relevant_pages,
    training_page,
)

__all__ = [
    "WORDS",
    "Page",
    "PageImages",
    "PageQuestion",
    "draw_page",
    "pages_benchmark",
    "pages_of",
    "questions_of",
    "relevant_pages",
    "training_page",
]
