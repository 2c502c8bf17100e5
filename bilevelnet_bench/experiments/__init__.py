"""The two-spiral experiments of the paper, with statistics over seeds and initialisations."""
