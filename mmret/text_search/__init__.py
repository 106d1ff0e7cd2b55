"""Retrieval by words: BM25 and dense text embeddings over a text layer, OCR or captions. Baselines of page images."""
