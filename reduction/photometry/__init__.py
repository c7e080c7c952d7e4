"""From plate solutions to fluxes."""
