"""The nouns of Clovisor (DESIGN, "Words"): plain types, standard library only, imported by everything."""
