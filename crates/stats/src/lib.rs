//! Counters, gauges and histograms in per-worker cells, under Envoy's names.
