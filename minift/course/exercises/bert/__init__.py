"""BERT: pairs, masked words, sentence vectors."""
