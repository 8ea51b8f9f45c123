//! `packetboat devices` prints the inventory of the running proxy, or the last one that it saved.

use std::path::Path;
use std::time::Duration;

use super::control_client::request;
use super::device_table::tables;
use super::error::{CommandError, Exit, unavailable};
use super::output::{print, print_error};
use super::{ConfigFile, runtime};
use crate::admin;
use crate::inventory::{self, Activities, FleetFacts, Report, SeenDevice};
use crate::text::excerpt;

#[derive(clap::Args)]
pub(super) struct DevicesArguments {
    /// Print JSON, for programs
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV, for spreadsheets
    #[arg(long)]
    csv: bool,
    /// Print only devices that this instance of the fleet has seen last
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

/// The devices, as the running proxy or its last saved files have them.
struct Listing {
    devices: Vec<SeenDevice>,
    reports: Vec<Report>,
    /// The fleet; none where packetboat is alone, or does not run.
    fleet: Option<FleetFacts>,
    /// The answer as JSON.
    json: String,
}

/// Prints the devices of the running proxy, or those of its last saved inventory, as a table, JSON or CSV.
pub(super) fn devices(file: &ConfigFile, arguments: &DevicesArguments) -> Result<(), CommandError> {
    let listing = from_proxy(file).or_else(|why| {
        let mut directories = file.state_directories().into_iter();
        let Some(directory) = directories.find(|directory| admin::inventory_path(directory).exists()) else {
            return Err(why);
        };
        let shown = admin::inventory_path(&directory);
        print_error(format_args!("{why}; showing the last saved inventory, {}", shown.display()));
        saved(&directory)
    })?;
    if let Some(sentence) = listing.fleet.as_ref().and_then(FleetFacts::why_alone) {
        print_error(sentence);
    }
    let listing = match &arguments.instance {
        Some(instance) => listing.of_instance(instance)?,
        None => listing,
    };
    if arguments.json {
        return print(format_args!("{}\n", listing.json));
    }
    if arguments.csv {
        return print(inventory::csv(&listing.devices, &listing.reports));
    }
    print(tables(&listing.devices, &listing.reports))
}

impl Listing {
    /// The devices that this instance of the fleet has seen last.
    fn of_instance(mut self, instance: &str) -> Result<Self, CommandError> {
        let Some(fleet) = &self.fleet else {
            return Err(Exit::Usage.because(
                "--instance is for a fleet, and the packetboat that answers is no instance of one: leave it out",
            ));
        };
        let is_it = |one: &Option<String>| one.as_deref() == Some(instance);
        self.devices.retain(|device| is_it(&device.instance));
        self.reports.retain(|report| is_it(&report.instance));
        if self.devices.is_empty() && self.reports.is_empty() && !fleet.instances.iter().any(|one| one == instance) {
            let known = fleet.instances.join(", ");
            let instance = excerpt(instance.as_bytes());
            let why =
                format!("no instance \"{instance}\" is registered, and none has seen a device; known are {known}");
            return Err(Exit::Usage.because(why));
        }
        let fleet = inventory::fleet_to_json(fleet);
        self.json = format!("{},\"fleet\":{fleet}}}", json(&self.devices, &self.reports).trim_end_matches('}'));
        Ok(self)
    }
}

/// The devices that the running proxy knows.
fn from_proxy(file: &ConfigFile) -> Result<Listing, CommandError> {
    let answer = runtime()?.block_on(request(file, "/inventory.json", PATIENCE, LONGEST_INVENTORY))?;
    if answer.status != 200 {
        let words = excerpt(answer.body.trim_ascii());
        return Err(unavailable(format_args!("packetboat answers {} {words}", answer.status)));
    }
    let devices = read(&answer.body).map_err(|_| unavailable("the server that answers is not packetboat"))?;
    let reports = inventory::read_reports(&answer.body);
    let fleet = inventory::read_fleet(&answer.body);
    Ok(Listing { devices, reports, fleet, json: String::from_utf8_lossy(&answer.body).into_owned() })
}

/// The devices that an earlier run has saved.
fn saved(directory: &Path) -> Result<Listing, CommandError> {
    let text = inventory::read_saved(&admin::inventory_path(directory));
    let devices = read(&text.map_err(|error| Exit::NoInput.because(error))?)?;
    let path = Activities::path(directory);
    let reports = if path.exists() { inventory::read_saved_reports(&path) } else { Ok(Vec::new()) };
    let reports = reports.unwrap_or_else(|error| {
        print_error(error);
        Vec::new()
    });
    let json = json(&devices, &reports);
    Ok(Listing { devices, reports, fleet: None, json })
}

fn json(devices: &[SeenDevice], reports: &[Report]) -> String {
    let (devices, reports) = (inventory::to_json(devices), inventory::reports_to_json(reports));
    format!("{{\"devices\":{devices},\"configured\":{reports}}}")
}

fn read(text: &[u8]) -> Result<Vec<SeenDevice>, CommandError> {
    inventory::read(text).map_err(|error| Exit::IoError.because(format_args!("it {error}")))
}

/// The longest inventory, in octets: that of a hundred thousand devices.
const LONGEST_INVENTORY: usize = 256 * 1024 * 1024;
/// The longest time that a request for the inventory may take.
const PATIENCE: Duration = Duration::from_secs(8);
