//! The simulator, as curl and a mail client see it: every grant, every family of quirks.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod endpoint;
mod mail;
mod scene;
