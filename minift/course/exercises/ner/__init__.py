"""Named entities: labels, spans, scores."""
