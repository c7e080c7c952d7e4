"""From fluxes to light curves."""
