//! These tests prove the packages on a system booted by systemd, and the image as the compose file starts it.
//!
//! They need root, Debian's Docker engine and debootstrap: `make test-system` installs and runs it all. Those of other
//! systems and machines take longer: `make test-packages`.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The figures of a load are printed.
#![allow(clippy::print_stdout)]

mod arm64;
mod engine;
mod first_hour;
mod fleet;
mod image;
mod packages;
mod release;
mod service;
mod static_program;
