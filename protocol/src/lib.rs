//! What the nodes of Tally agree on, and the roles they play. No clock, socket, file, thread or unseeded chance.
//!
//! Read in this order:
//!
//! 1. [`id`], [`time`], [`points`], [`unit`](mod@unit): the words. [`codec`] and [`signed`]: how they are written and signed.
//! 2. [`task`]: what a customer asks for, how it is cut and put together.
//! 3. [`message`]: what nodes say to each other. [`entry`], [`merkle`] and [`checkpoint`]: what stays for ever.
//! 4. [`rate_card`], [`receipt`], [`certificate`]: what work is worth, and to whom. [`account`], [`books`], [`posting`]:
//!    what that does to the books.
//! 5. [`agreement`], [`registration`], [`redemption`]: what points are worth at an app server, for whom, and how they are
//!    taken. [`settlement`]: what is owed for them. [`countersignature`]: what two sides sign.
//! 6. [`product`], [`issuer`], [`license`], [`voucher`]: what is given for points, as [text](armour) that anybody can check.
//!    [`invite`] is how computers come to it, [`purse`] what their owner can spend.
//! 7. [`coordinator`], [`terminal`], [`customer`], [`app_server`]: the roles, and the [`witness`] of what others sign, as state machines.
//!    Each takes one input at a time with the time of day and answers with effects; a shell (the node, or the simulator)
//!    carries them out.
#![forbid(unsafe_code)]

pub mod account;
pub mod agreement;
mod allowance;
pub mod app_server;
pub mod armour;
pub mod books;
pub mod certificate;
pub mod checkpoint;
pub mod codec;
pub mod coordinator;
pub mod countersignature;
pub mod customer;
pub mod delivery;
pub mod entry;
pub mod head_gate;
pub mod id;
pub mod invite;
pub mod issuer;
pub mod license;
pub mod manners;
pub mod merkle;
pub mod message;
pub mod offer_gate;
pub mod points;
pub mod posting;
pub mod product;
pub mod purse;
pub mod rate_card;
pub mod receipt;
pub mod redemption;
pub mod registration;
pub mod settlement;
pub mod signed;
pub mod task;
pub mod terminal;
pub mod time;
pub mod unit;
pub mod voucher;
pub mod witness;
