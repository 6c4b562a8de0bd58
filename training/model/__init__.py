"""Light part of a model that serving loads: bundle, predictors, encoder, reasons and bands."""
