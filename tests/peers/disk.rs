//! The state directory under every fault that a disk, a clock or a kill can have: tokens and certificates are whole
//! afterwards, devices get their mail meanwhile, and what is wrong is said once, with what to do.

mod clock;
mod damage;
mod full;
mod killed;
mod mounted;
mod rights;
mod twice;
