//! `packetboat demo`: an old device, the proxy, and a pretend Exchange Online, all on this computer; then it stays up
//! for devices of your own.

mod transcript;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::error::{CommandError, Exit, unavailable};
use super::output::{diagnostics_error, print, problems_error};
use super::run;
use crate::config::{Config, DefaultListener, Entry, Profile, Proven};
use crate::device::password;
use crate::lifecycle::{self, EarlySignals, Phase};
use crate::mode::Mode;
use crate::protocol::{ByProtocol, Protocol};
use crate::proxy::{self, PreparedService, ProcessState, RunningProxy};
use crate::simulator::{Setup, Simulator, Tenant, User};
use crate::state::{self, Access};
use crate::text::Printable;
use crate::transport::downstream::certificate;
use crate::transport::host;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Keep the demo's certificates here, so that a device has to import the CA only once
    #[arg(long, value_name = "DIRECTORY")]
    state_directory: Option<PathBuf>,
    /// Accept the TLS of this profile: modern (TLS 1.2 and later), legacy (TLS 1.0 and later) or ancient (SSLv3, 3DES
    /// and RC4 as well)
    #[arg(long, default_value = "legacy", value_parser = ["modern", "legacy", "ancient"])]
    profile: String,
    /// Listen on this address; 127.0.0.1 keeps the LAN out
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    listen: IpAddr,
    /// Exit after the built-in device has sent a scan and fetched its mail
    #[arg(long)]
    once: bool,
}

/// The demo's directory, its device's login, the mailbox behind that, and its ports.
struct Setting {
    directory: PathBuf,
    login: &'static str,
    password: String,
    mailbox: &'static str,
    /// The ports of each protocol: with STARTTLS or TLS, and with TLS alone.
    ports: ByProtocol<[u16; 2]>,
    listen: IpAddr,
}

pub(super) fn demo(arguments: &Arguments) -> Result<(), CommandError> {
    super::runtime()?.block_on(run(arguments))
}

async fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let directory = directory(arguments.state_directory.as_deref())?;
    let setting = Setting {
        password: password::generate(12).map_err(unavailable)?.to_string(),
        ports: ByProtocol::new(|protocol| {
            DefaultListener::of(protocol).map(|one| free_port(arguments.listen, one.port))
        }),
        listen: arguments.listen,
        login: "scanner3",
        mailbox: "scans@contoso.example",
        directory,
    };
    let signals = EarlySignals::listen().and_then(EarlySignals::and_ends);
    let (mut signals, _) = signals.map_err(unavailable)?;
    let simulator = simulator(&setting).await?;
    let proven = configuration(&setting, &simulator, &arguments.profile)?;
    let common = ProcessState::new(&proven.config).map_err(unavailable)?;
    let opened =
        proxy::open(&proven.config, Mode::Apply, &common, None).map_err(|found| diagnostics_error(&proven, &found))?;
    let addresses = ByProtocol::new(|protocol| loopback(&opened.services, protocol));
    let (trigger, lifecycle) = lifecycle::begin();
    let mut serving = RunningProxy::start(opened, &proven.config, &common, &lifecycle).map_err(unavailable)?;
    drop(lifecycle);
    let authority = certificate::authority_path(&setting.directory);
    let der = certificate::der(&authority).map_err(unavailable)?;
    state::write(&setting.directory.join("ca.der"), &der, Access::Public).map_err(unavailable)?;
    let old = Profile::ALL.iter().any(|one| one.name() == arguments.profile && *one != Profile::Modern);
    if old {
        transcript::show(&simulator, &setting, &authority, &addresses).await?;
    }
    if !arguments.once {
        show(transcript::by_hand(&setting, &authority))?;
        run::log::start(&proven.config);
        signals.next().await;
    }
    trigger.enter(Phase::Ending);
    serving.drain();
    trigger.all_gone(proven.config.limits.close_timeout).await;
    serving.settle().await;
    Ok(())
}

/// The directory that was given, or one below the system's temporary directory, which must be this user's own.
fn directory(given: Option<&Path>) -> Result<PathBuf, CommandError> {
    if let Some(given) = given {
        state::make_directory(given).map_err(unavailable)?;
        return std::path::absolute(given).map_err(|error| unavailable(format_args!("{}: {error}", given.display())));
    }
    let own = std::env::temp_dir().join(format!("packetboat-demo-{}", rustix::process::geteuid().as_raw()));
    state::make_directory(&own).map_err(unavailable)?;
    state::check_own(&own).map_err(unavailable)?;
    Ok(own)
}

async fn simulator(setting: &Setting) -> Result<Simulator, CommandError> {
    let mut tenant = Tenant::new("contoso.example", CLIENT);
    tenant.public_client = false;
    tenant.client_secret = Some(SECRET.to_owned());
    tenant.app_mailboxes = vec![setting.mailbox.to_owned()];
    tenant.users = vec![User::new(setting.mailbox, "nobody knows it")];
    let exchange = setting.directory.join("exchange");
    state::make_directory(&exchange).map_err(unavailable)?;
    let simulator = Simulator::start(Setup { directory: exchange, tenant }).await.map_err(unavailable)?;
    simulator.deliver(setting.mailbox, MESSAGE.replace('\n', "\r\n").into_bytes());
    Ok(simulator)
}

/// Writes an ordinary configuration, as an operator would, and keeps it for people to read.
fn configuration(setting: &Setting, simulator: &Simulator, profile: &str) -> Result<Proven, CommandError> {
    let secret = setting.directory.join("client-secret");
    state::write(&secret, SECRET.as_bytes(), Access::Private).map_err(unavailable)?;
    let hash = password::hash(setting.password.as_bytes()).map_err(unavailable)?;
    let (directory, roots) = (&setting.directory, simulator.authority());
    let (imap, pop3, smtp) = (simulator.imap().port(), simulator.pop3().port(), simulator.smtp().port());
    let endpoint = simulator.endpoint().port();
    let (login, mailbox) = (setting.login, setting.mailbox);
    let mut text = format!(
        "# The demo's configuration. A real one leaves out cloud, authority, roots, upstream and [upstream.exchange].\n\
         state_directory = {directory:?}\n\n\
         [identity.office]\ntenant = \"contoso.example\"\nclient_id = \"{CLIENT}\"\nclient_secret_file = {secret:?}\n\
         cloud = \"worldwide\"\nauthority = \"https://localhost:{endpoint}\"\nroots = {roots:?}\n\n\
         [upstream.exchange]\nhost = \"localhost\"\nimap_port = {imap}\npop3_port = {pop3}\nroots = {roots:?}\n\n\
         [upstream.exchange.smtp]\nport = {smtp}\n\n\
         [account.scans]\nmailbox = \"{mailbox}\"\nupstream = \"exchange\"\n\n\
         [[device]]\nlogin = \"{login}\"\npasswords = [\"{hash}\"]\n"
    );
    for (port, one) in
        setting.ports.iter().flat_map(|(protocol, ports)| ports.iter().zip(DefaultListener::of(protocol)))
    {
        let address = SocketAddr::new(setting.listen, *port);
        let (protocol, entry) = (one.protocol.key(), one.entry);
        text += &format!(
            "\n[[listener]]\nname = \"{protocol}-{entry}\"\nprotocol = \"{protocol}\"\nlisten = [\"{address}\"]\n\
             entry = \"{entry}\"\nprofile = \"{profile}\"\n"
        );
    }
    let file = setting.directory.join("packetboat.toml");
    state::write(&file, text.as_bytes(), Access::Private).map_err(unavailable)?;
    Config::parse(&text, &file).map_err(|problems| problems_error(Exit::Unavailable, &problems))
}

/// The default port, or any other one where it is in use.
fn free_port(address: IpAddr, port: u16) -> u16 {
    match TcpListener::bind((address, port)) {
        Ok(_) => port,
        Err(_) => TcpListener::bind((address, 0)).and_then(|one| one.local_addr()).map_or(port, |one| one.port()),
    }
}

/// The address at which the built-in device finds the listener of a protocol, with TLS from the start.
fn loopback(services: &[PreparedService], protocol: Protocol) -> SocketAddr {
    let is_meant =
        |one: &&PreparedService| one.listener().protocol == protocol && one.listener().entry == Entry::Implicit;
    let address = services.iter().find(is_meant).and_then(|one| one.addresses().first().copied());
    match address {
        Some(address) if !address.ip().is_unspecified() => address,
        other => SocketAddr::from((Ipv4Addr::LOCALHOST, other.map_or(0, |address| address.port()))),
    }
}

/// Addresses that a device on the LAN can use.
fn reachable(listen: IpAddr) -> Vec<IpAddr> {
    if listen.is_unspecified() {
        host::addresses().into_iter().filter(|address| address.is_ipv4() && !address.is_loopback()).collect()
    } else {
        vec![listen]
    }
}

fn show(text: Printable) -> Result<(), CommandError> {
    print(text).map_err(|_| unavailable("there is nobody to show this to"))
}

const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
/// A secret that everybody knows, and that opens nothing but the simulator.
const SECRET: &str = "the-demo-has-no-secrets";
const MESSAGE: &str = "\
From: Reception <reception@contoso.example>
To: Scanner on the second floor <scans@contoso.example>
Subject: It still works
Date: Sat, 21 Nov 2026 10:00:00 +0000
Message-ID: <demo@contoso.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

Dear scanner,

you speak TLS 1.0, and I live where nothing below TLS 1.2 is let in.
Still you are reading this.

Yours, the pretend Exchange Online
";
