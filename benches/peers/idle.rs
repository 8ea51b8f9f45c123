//! This file measures the memory of idle connections that read and that send, before the login and behind it. Each
//! figure comes from a program that was started for it, because a program uses again what earlier connections have freed.
//!
//! packetboat connects to the server at the login; the relays connect at once.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::bench::upstream::SUBMISSION;

use crate::measure::Row;
use crate::proxies::{Setting, Start};

/// A state in which a device leaves its connection.
struct Idle {
    name: &'static str,
    manner: usize,
    open: fn(&Kind, SocketAddr) -> Box<dyn Any>,
}

const STATES: [Idle; 4] = [
    Idle { name: "idle connection, memory (PSS), started for it", manner: 0, open: reading },
    Idle {
        name: "idle connection before its login, memory (PSS)",
        manner: 0,
        open: |kind, address| Box::new(kind.connect(address, None)),
    },
    Idle { name: "idle connection that sends, memory (PSS)", manner: SUBMISSION[0], open: sending },
    Idle {
        name: "idle connection that sends, before its login, memory (PSS)",
        manner: SUBMISSION[0],
        open: |kind, address| Box::new(kind.connect_submitter(address, None)),
    },
];

/// A row for each state.
pub fn measure(starts: &[Start], setting: &Setting<'_>, kind: &Kind, most: usize) -> Vec<Row> {
    let row = |Idle { name, manner, open }: Idle| {
        let figure = |start: &Start| {
            let proxy = start(setting)?;
            if COUNT * proxy.descriptors > most {
                return None;
            }
            let (tree, address) = (proxy.tree(), proxy.addresses[manner]);
            let first = open(kind, address);
            std::thread::sleep(SETTLING);
            let before = tree.memory();
            let devices: Vec<_> = (0..COUNT).map(|_| open(kind, address)).collect();
            std::thread::sleep(SETTLING);
            let memory = (tree.memory() - before) / COUNT as f64;
            drop((first, devices));
            Some(Figures(vec![memory]))
        };
        Row { name: format!("{name}, of {COUNT}"), unit: "KiB", figures: starts.iter().map(figure).collect() }
    };
    STATES.map(row).into()
}

fn reading(kind: &Kind, address: SocketAddr) -> Box<dyn Any> {
    let mut device = kind.connect(address, None);
    device.login("u", "p");
    device.ok("SELECT INBOX");
    device.idle();
    Box::new(device)
}

fn sending(kind: &Kind, address: SocketAddr) -> Box<dyn Any> {
    let mut device = kind.connect_submitter(address, None);
    device.login("u", "p");
    Box::new(device)
}

const COUNT: usize = 1000;
/// The time in which a program finishes with the connections just opened.
const SETTLING: Duration = Duration::from_millis(500);
