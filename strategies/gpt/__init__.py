"""Architectures proposed by a language model: prompt, memory, parsing, repair and fall-back. Knows no network."""
