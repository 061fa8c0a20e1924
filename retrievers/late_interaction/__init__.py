"""A vector of every token: encoding, candidates, and MaxSim."""
