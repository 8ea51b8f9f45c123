//! The shared parts of the benches: the old device, the fast server, CPU time, figures, and email-oauth2-proxy to compare with.

pub mod cost;
pub mod device;
pub mod emailproxy;
pub mod figures;
pub mod upstream;
