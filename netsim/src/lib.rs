//! The Tally roles on a simulated network, disk and clock.
