//! Whole worlds: the scenarios that are shipped, dishonest nodes, planted bugs, and the program as its users see it.

mod cli;
mod dishonest;
mod every_order;
mod every_record;
mod planted;
mod regressions;
mod scenarios;
