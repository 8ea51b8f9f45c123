//! These tests prove packetboat between real peers: Dovecot and a pretend Exchange Online upstream; OpenSSL, GnuTLS,
//! mbedTLS and Java devices downstream.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accessibility;
mod admin;
mod balancer;
mod certificate;
mod confinement;
mod connection_id;
mod control;
mod delivery;
mod demo;
mod device_commands;
mod device_page;
mod disk;
mod documented_lines;
mod endpoints;
mod failures;
mod first_hour;
mod flow;
mod forgetting;
mod guessers;
mod lifecycle;
mod limits;
mod matrix;
mod mistakes;
mod names;
mod oauth;
mod odd;
mod page;
mod page_actions;
mod planted;
mod premises;
mod pressure;
mod programs;
mod protocol;
mod receivers;
mod reload;
mod renewal;
mod revoked;
mod scan;
mod secrets;
mod setup_again;
mod short;
mod short_password;
mod silent_devices;
mod sockets;
mod stall;
mod strangers;
mod strangers_advice;
mod technicians;
mod ten_mistakes;
mod translation;
mod trial;
mod usual_ports;
mod warm;
