"""Tensor formulas with learned weights and no image meaning: a pure function and a thin module each."""
