"""Pictures for teaching: folders decoded once into one memory-mapped corpus, crops of it, and what spoils them."""
