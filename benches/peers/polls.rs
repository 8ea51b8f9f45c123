//! This file counts the logins at the server of devices that poll each minute, with parking and without.
//!
//! Nine devices, each with its own mailbox, play 160 minutes: as many polls as one device has in a day. With parking, time
//! is 60 times as short, and the times of parking are divided by 60 as well. Without, no time matters, and it is shorter.
//! The count begins behind the comparison that follows a start.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::bench::upstream::Upstream;
use support::proxy;

use crate::measure::{Row, reading};
use crate::translated::{self, Endpoint};

/// A way to the server's connection.
struct Way {
    name: &'static str,
    /// Its lines under `[upstream.u]`: those of `park = "5m"` and of the default `park_age = "20m"`, in the shorter time.
    lines: &'static str,
    /// A minute in the shorter time.
    minute: Duration,
}

const WAYS: [Way; 2] = [
    Way { name: "dialled", lines: "", minute: Duration::from_millis(100) },
    Way { name: "park = \"5m\"", lines: "park = \"5s\"\npark_age = \"20s\"", minute: Duration::from_secs(1) },
];

const DEVICES: u32 = 9;
/// The polls of each device. All together are those of one device in a day.
const POLLS: u32 = 24 * 60 / DEVICES;

/// A row for each way.
pub fn measure(directory: &Path, endpoint: &Endpoint<'_>, upstream: &mut Upstream, kind: &Kind) -> Vec<Row> {
    WAYS.map(|way| {
        let text = proxy::upstream("u", [upstream.ports[0]; 2], directory, way.lines);
        let name = format!("polls-{}", way.lines.len());
        let figures = translated::start(&name, directory, endpoint, &text).map(|(_process, address)| {
            // The first login after a start that could take a parked connection is compared, and dials.
            (0..2).for_each(|_| reading(kind, address, None, &format!("u{DEVICES}")));
            let before = upstream.logins();
            thread::scope(|scope| {
                for number in 0..DEVICES {
                    scope.spawn(move || poll(kind, address, number, way.minute));
                }
            });
            let logins = upstream.logins() - before;
            Figures(vec![logins as f64])
        });
        Row {
            name: format!("logins at the server in a day of a poll each minute, {}", way.name),
            unit: "1/d",
            figures: vec![figures],
        }
    })
    .into()
}

/// Plays this device. The devices' polls are spread over the minute.
fn poll(kind: &Kind, address: SocketAddr, number: u32, minute: Duration) {
    let login = format!("u{number}");
    let began = Instant::now() + minute / DEVICES * number;
    for poll in 0..POLLS {
        thread::sleep((began + minute * poll).saturating_duration_since(Instant::now()));
        reading(kind, address, None, &login);
    }
}
