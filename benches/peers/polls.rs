//! This file counts the logins at the server of a device that polls each minute, with parking and without.
//!
//! Time is 600 times as short: ten polls come each second, and the times of parking are divided by 600 as well. A whole day
//! is played.

use std::path::Path;
use std::time::{Duration, Instant};

use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::bench::upstream::Upstream;
use support::proxy;

use crate::measure::{Row, reading};
use crate::translated::{self, Endpoint};

/// Ways to the server's connection, each with its lines under `[upstream.u]`: those of `park = "5m"` and of the default
/// `park_age = "20m"`, in the shorter time.
const WAYS: [(&str, &str); 2] = [("dialled", ""), ("park = \"5m\"", "park = \"500ms\"\npark_age = \"2s\"")];

/// A row for each way.
pub fn measure(directory: &Path, endpoint: &Endpoint<'_>, upstream: &mut Upstream, kind: &Kind) -> Vec<Row> {
    WAYS.map(|(way, more)| {
        let text = proxy::upstream("u", [upstream.ports[0]; 2], directory, more);
        let name = format!("polls-{}", more.len());
        let figures = translated::start(&name, directory, endpoint, &text).map(|(_process, address)| {
            let before = upstream.logins();
            let began = Instant::now();
            for number in 0..POLLS {
                std::thread::sleep((began + MINUTE * number).saturating_duration_since(Instant::now()));
                reading(kind, address, None, "u0");
            }
            let logins = upstream.logins() - before;
            Figures(vec![logins as f64])
        });
        Row {
            name: format!("logins at the server in a day of a poll each minute, {way}"),
            unit: "1/d",
            figures: vec![figures],
        }
    })
    .into()
}

/// A minute in the shorter time.
const MINUTE: Duration = Duration::from_millis(100);
/// Polls in a day.
const POLLS: u32 = 24 * 60;
