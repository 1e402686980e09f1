"""Programs as people write them themselves, which the topics of bench compare reclaim with."""
