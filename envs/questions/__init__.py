"""Multi-hop questions: HotpotQA, 2WikiMultihopQA, MuSiQue, and MiniWiki, which generates its own.

metrics: exact match and F1. records: question files of every form, read into `Question`. corpus: where
searches look. live: Wikipedia itself. variants: what the actions say. env: the environments. data: the
official sets. miniwiki: the generated encyclopaedia and its questions.
"""
