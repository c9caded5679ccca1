"""Text in: known corpora, reading, documents, vocabulary, splits, streams."""
