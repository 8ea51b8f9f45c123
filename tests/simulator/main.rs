//! These tests prove the simulator to curl and a mail client: every grant, and every family of quirks.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod endpoint;
mod mail;
mod scene;
mod sessions;
mod smuggling;
mod submission;
