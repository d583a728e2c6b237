"""Settings that were chosen by measurement, one TOML file for each data set."""
