//! These tests prove that the state directory survives every fault of a disk, a clock or a kill.
//!
//! Tokens and certificates are whole afterwards, and devices get their mail meanwhile. One log line names each fault
//! and its fix.

mod clock;
mod damage;
mod full;
mod killed;
mod rights;
mod twice;
