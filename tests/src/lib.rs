//! Tests over real processes and real libp2p, and the benchmarks.
