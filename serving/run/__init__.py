"""The pipeline behind `bellwether run`: features, training, scores, report."""
