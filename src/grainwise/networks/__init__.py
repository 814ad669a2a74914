"""Networks, each in a file of its own, built of a set of convolutions that is handed in."""
