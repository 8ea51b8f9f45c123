//! packetboat lets old devices keep reading their mail: TLS 1.0 and IMAP or POP3 on the device's side,
//! TLS 1.2 or later on the mail server's.
//!
//! The house, from the ground up. A file imports only from lower floors (`tests/floors.rs` holds that):
//!
//! | floor | module | what lives there |
//! |---|---|---|
//! | 0 | [`crypto`] | cryptography that is not TLS: random octets, keyed hashes, sealed records, signatures |
//! | 0 | [`failure`] | why a connection ended; what device, log and metrics make of it |
//! | 0 | [`pool`] | threads for calls that block: bounded, and started before they are needed |
//! | 0 | [`secret`] | a value that is never seen |
//! | 0 | [`source`] | the unit in which limits count addresses |
//! | 0 | [`text`] | text as people paste it: byte order marks, line ends, UTF-16 |
//! | 0 | [`withdrawn`] | permissions that a reload can withdraw from an open connection |
//! | 1 | [`config`] | the file as written, and what is proven of it |
//! | 1 | [`proto`] | IMAP and POP3 as pure machines: octets in, steps out |
//! | 1 | [`state`] | files in the state directory: whole or not at all |
//! | 2 | [`transport`] | streams: plain or TLS; OpenSSL towards the device, rustls towards the server |
//! | 2 | [`lifecycle`] | running, draining, ending |
//! | 2 | [`confinement`] | what the process gives up before it serves |
//! | 2 | [`metrics`] | what is counted, for Prometheus and the page's charts |
//! | 3 | [`device`] | who a device is, and which account it opens |
//! | 3 | [`inventory`] | which devices were seen, with what TLS, and whether they need packetboat |
//! | 3 | [`token`] | access tokens: fetched, kept fresh, and the refresh tokens behind them |
//! | 4 | [`proxy`] | accept, limits, one connection on one screen, the relay; reloads |
//! | 4 | [`admin`] | metrics, health, and the page that shows every device |
//! | 5 | [`simulator`] | a pretend Exchange Online with its token endpoint, for the demonstration and for tests |
//! | 6 | [`cli`] | subcommands, one file each; `main.rs` only calls it |

pub mod admin;
pub mod cli;
pub mod config;
pub mod confinement;
pub mod crypto;
pub mod device;
pub mod failure;
pub mod inventory;
pub mod lifecycle;
pub mod metrics;
pub mod pool;
pub mod proto;
pub mod proxy;
pub mod secret;
pub mod simulator;
pub mod source;
pub mod state;
pub mod text;
pub mod token;
pub mod transport;
pub mod withdrawn;
