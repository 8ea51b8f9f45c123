//! packetboat lets old devices keep reading and sending their mail: TLS 1.0 and IMAP, POP3 or SMTP on the device's side,
//! TLS 1.2 or later on the mail server's.
//!
//! The house, from the ground up. A file imports only from lower floors, and siblings in a room never form a cycle
//! (`tests/floors.rs` holds both):
//!
//! | floor | module | content |
//! |---|---|---|
//! | 0 | [`crypto`] | cryptography that is not TLS: random octets, keyed hashes, sealed records, signatures |
//! | 0 | [`diagnostic`] | a key of the configuration, and the message about it |
//! | 0 | [`failure`] | reasons for the end of a connection, with reply, log level and metric label of each |
//! | 0 | [`mode`] | two ways to start: for real, or as a dry run |
//! | 0 | [`pool`] | threads for calls that block: bounded, and started before they are needed |
//! | 0 | [`protocol`] | the mail protocols: names, ports, greeting, permissions |
//! | 0 | [`secret`] | a value that is never printed, and wiped when dropped |
//! | 0 | [`source`] | the unit in which limits count addresses |
//! | 0 | [`submission`] | the rules for mail that a device sends |
//! | 0 | [`text`] | text as people paste it: byte order marks, line ends, UTF-16 |
//! | 0 | [`withdrawal`] | permissions that a reload can withdraw from an open connection |
//! | 1 | [`config`] | the configuration file as written, and as checked |
//! | 1 | [`proto`] | IMAP, POP3 and SMTP as pure state machines: octets in, steps out |
//! | 1 | [`state`] | files in the state directory: whole or not at all |
//! | 2 | [`confinement`] | rights that the process gives up before it serves (Landlock, seccomp) |
//! | 2 | [`lifecycle`] | states of the process: running, draining, ended |
//! | 2 | [`transport`] | streams: plain or TLS; OpenSSL towards the device, rustls towards the server |
//! | 3 | [`fleet`] | several instances with one PostgreSQL database: its schema, its records, and sessions that they lend each other |
//! | 4 | [`device`] | device logins: passwords, delays after failures, and the account that a login opens |
//! | 4 | [`inventory`] | devices seen on the network and their TLS; whether configured devices get and send their mail |
//! | 4 | [`metrics`] | counters for Prometheus, and history for the page's charts |
//! | 4 | [`spool`] | messages on disk that a mail server has not taken yet, and their delivery |
//! | 4 | [`token`] | access tokens: fetched, kept fresh, and the refresh tokens behind them |
//! | 5 | [`provision`] | changes to the configuration file: accounts, devices, identities, and a sheet for each device |
//! | 5 | [`proxy`] | listeners, limits, connections, the relay, and reloads |
//! | 6 | [`admin`] | metrics, health, and the page that shows every device |
//! | 6 | [`simulator`] | a pretend Exchange Online with its token endpoint, for the demonstration and for tests |
//! | 7 | [`cli`] | subcommands, one file each; `main.rs` only calls it |

// Both are pedantic lints of clippy; clippy.toml has the bounds. A function that breaks them has its reason beside it.
#![warn(clippy::too_many_lines, clippy::too_many_arguments)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod confinement;
pub mod crypto;
pub mod device;
pub mod diagnostic;
pub mod failure;
pub mod fleet;
pub mod inventory;
pub mod lifecycle;
pub mod metrics;
pub mod mode;
pub mod pool;
pub mod proto;
pub mod protocol;
pub mod provision;
pub mod proxy;
pub mod secret;
pub mod simulator;
pub mod source;
pub mod spool;
pub mod state;
pub mod submission;
pub mod text;
pub mod token;
pub mod transport;
pub mod withdrawal;
