"""How a picture is restored: noise level, budget, plan, tiles, machine."""
