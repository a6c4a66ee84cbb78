//! The Tally node: libp2p, disk, clock and command line around the role machines.
//!
//! - [`node`]: a running node; [`coordinator`], [`terminal`] and [`app_server`]: the shells of its roles; [`customer`]: the customer's
//! - [`issuing`]: what an app server issues licenses with; [`http`]: how shops and browsers reach it; [`delivery`]: what a
//!   computer without Tally gets from it
//! - [`page`]: how the owner of a computer sees and steers its terminal; [`web`]: what answers HTTP for both
//! - [`member`]: a computer and its app server, as its owner uses them
//! - [`witness`]: what the logs of other coordinators have signed
//! - [`network`]: the overlay; [`blobs`]: content; [`peers`]: the way to other nodes and to the other roles of this one
//! - [`worker`]: the sandboxes; [`programs`]: those that come with Tally
//! - [`records`]: what a role starts from and writes to
//! - [`folder`], [`keys`], [`config`], [`clock`], [`fault`]: what a node stands on
//! - [`admin`]: the socket of the running node; [`cli`]: the command line
#![forbid(unsafe_code)]

pub mod admin;
pub mod app_server;
pub mod blobs;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod customer;
pub mod delivery;
pub mod error;
pub mod fault;
pub mod folder;
pub mod http;
pub mod issuing;
pub mod keys;
pub mod member;
pub mod network;
pub mod node;
pub mod owner;
pub mod page;
pub mod peers;
pub mod programs;
pub mod records;
pub mod terminal;
pub mod web;
pub mod witness;
pub mod worker;
