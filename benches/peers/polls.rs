//! This file counts the logins at the server of a device that polls each minute, with parking and without.
//!
//! Time is 60 times as short: a poll comes each second, and the times of parking are divided by 60 as well. Two hours
//! are played, and the count is taken for a day.

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
const WAYS: [(&str, &str); 2] = [("dialled", ""), ("park = \"5m\"", "park = \"5s\"\npark_age = \"20s\"")];

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
            Figures(vec![logins as f64 * f64::from(A_DAY) / f64::from(POLLS)])
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
const MINUTE: Duration = Duration::from_secs(1);
/// Polls that are played: two hours.
const POLLS: u32 = 120;
/// Polls in a day.
const A_DAY: u32 = 24 * 60;
