"""The cases of protocol/vectors: made here, written by `scripts/vectors`, and run by test_vectors.py."""
