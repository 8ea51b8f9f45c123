//! These tests prove the Debian package on a system booted by systemd, and the image as the compose file starts it.
//!
//! They need root, Debian's Docker engine and debootstrap: `make test-system` installs and runs it all.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod engine;
mod first_hour;
mod image;
mod release;
mod service;
