//! packetboat as an administrator runs it: the Debian package on a system that systemd has booted, and the image as the
//! compose file starts it. Needs root, Debian's Docker engine and debootstrap: `make test-system` installs and runs it.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod engine;
mod image;
mod release;
mod service;
