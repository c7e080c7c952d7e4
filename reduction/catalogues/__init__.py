"""Catalogues of stars: what their columns mean, the services that have them, and how their stars become sources."""
