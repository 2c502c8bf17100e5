"""The mathematics, stated once: data sets, networks, problems."""
