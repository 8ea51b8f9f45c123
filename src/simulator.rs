//! The simulator is a pretend Exchange Online on this computer, for the demonstration and for tests: IMAP, POP3, SMTP
//! and the token endpoint of one tenant. Like the real one it opens mailboxes to XOAUTH2 only. It misbehaves on request.

pub mod client;
mod connection;
mod counts;
mod entra;
mod imap;
mod login;
mod mailbox;
mod pop3;
pub mod quirks;
mod refusal;
mod scope;
mod smtp;
mod submission;
mod tenant;
mod tokens;
mod view;
mod world;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::config::{Certificate, CertificateSource, Digest, Profile};
use crate::crypto;
use crate::mode::Mode;
use crate::protocol::{ByProtocol, Protocol, Security};
use crate::transport::downstream::certificate;
use crate::transport::downstream::{Acceptor, Sessions};
use crate::transport::socket::Socket;
use connection::{AcceptError, Connection, Kind};
use world::World;

pub use counts::{COUNTED_COMMANDS, Counts, LoginCounts, MailboxCounts, SubmissionCounts};
pub use quirks::Quirks;
pub use submission::{Defect, RepeatedError, SmtpCommand, Submission};
pub use tenant::{ClientCertificate, Tenant, User};

/// The settings of a simulator.
pub struct Setup {
    /// The directory of its certificate and of the authority's, which are made there.
    pub directory: PathBuf,
    /// The tenant that it simulates.
    pub tenant: Tenant,
}

/// A running simulator. It ends, with all its connections, when it is dropped.
pub struct Simulator {
    world: Arc<World>,
    directory: PathBuf,
    mail: ByProtocol<SocketAddr>,
    smtps: SocketAddr,
    imds: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Starts a simulator on free ports of 127.0.0.1.
    ///
    /// # Errors
    /// The directory cannot be written, or there is no port.
    pub async fn start(setup: Setup) -> Result<Self, Box<dyn Error>> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let source = CertificateSource::Made { names, digest: Digest::Sha256, years: Some(1) };
        let made = Certificate { source, ecdsa: None };
        let loaded = certificate::load(&made, &setup.directory, "simulator", Mode::Apply);
        let loaded = loaded?;
        let acceptor = Arc::new(Acceptor::new(&Profile::Modern.policy(), &loaded)?);
        let mut listeners = Vec::new();
        let mut listen = |kind| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            listeners.push((TcpListener::from_std(listener)?, kind));
            Ok::<_, std::io::Error>(address)
        };
        let mut listen_on_all = || {
            let mail = ByProtocol::try_new(|protocol| listen(ServiceKind::Mail(protocol, protocol.usual_security())))?;
            let smtps = listen(ServiceKind::Mail(Protocol::Smtp, Security::Implicit))?;
            Ok::<_, std::io::Error>((mail, smtps, listen(ServiceKind::Endpoint)?, listen(ServiceKind::Metadata)?))
        };
        let (mail, smtps, endpoint, imds) =
            listen_on_all().map_err(|error| format!("cannot listen on 127.0.0.1: {error}"))?;
        let seed = crypto::random()?;
        let world = Arc::new(World::new(setup.tenant, endpoint, seed));
        let serve = |(listener, kind)| tokio::spawn(accept(listener, kind, Arc::clone(&world), Arc::clone(&acceptor)));
        let tasks = listeners.into_iter().map(serve).collect();
        Ok(Self { world, directory: setup.directory, mail, smtps, imds, tasks })
    }

    /// The address of a mail protocol: with implicit TLS, and for SMTP with STARTTLS, as Exchange has it.
    pub fn mail(&self, protocol: Protocol) -> SocketAddr {
        *self.mail.of(protocol)
    }

    /// The address of IMAP.
    pub fn imap(&self) -> SocketAddr {
        self.mail(Protocol::Imap)
    }

    /// The address of POP3.
    pub fn pop3(&self) -> SocketAddr {
        self.mail(Protocol::Pop3)
    }

    /// The address of SMTP, with STARTTLS.
    pub fn smtp(&self) -> SocketAddr {
        self.mail(Protocol::Smtp)
    }

    /// The address of SMTP with implicit TLS, which Exchange does not have.
    pub fn smtps(&self) -> SocketAddr {
        self.smtps
    }

    /// The address of the token endpoint: `https://127.0.0.1:PORT/TENANT/oauth2/v2.0/token` and its like.
    pub fn endpoint(&self) -> SocketAddr {
        self.world.endpoint
    }

    /// The address of the metadata service: `http://127.0.0.1:PORT/metadata/identity/oauth2/token`.
    pub fn imds(&self) -> SocketAddr {
        self.imds
    }

    /// The PEM file of the authority that its certificate comes from.
    pub fn authority(&self) -> PathBuf {
        certificate::authority_path(&self.directory)
    }

    /// Puts a message into a mailbox; returns false if there is no such mailbox.
    pub fn deliver(&self, mailbox: &str, message: Vec<u8>) -> bool {
        let found = self.world.mailbox(mailbox);
        found.map(|mailbox| mailbox.deliver(message, Vec::new())).is_some()
    }

    /// Registers a certificate for the app beside those that it has, as packetboat.ps1 does.
    pub fn upload_certificate(&self, certificate: ClientCertificate) {
        self.world.upload_certificate(certificate);
    }

    /// Removes the app's certificate of this thumbprint, as an administrator does.
    pub fn remove_certificate(&self, thumbprint: &str) {
        self.world.remove_certificate(thumbprint);
    }

    /// Gives the app full access to a mailbox, as packetboat.ps1 does.
    pub fn grant_mailbox(&self, mailbox: &str) {
        self.world.grant_mailbox(mailbox);
    }

    /// Lets a mailbox send as another sender, for an alias or after `Add-RecipientPermission`.
    pub fn grant_send_as(&self, mailbox: &str, sender: &str) {
        self.world.grant_send_as(mailbox, sender);
    }

    /// Throttles a mailbox for submission, or lifts its throttle.
    pub fn throttle_submission(&self, mailbox: &str, error: Option<RepeatedError>) {
        self.world.submissions.ledger.lock().throttle(mailbox, error);
    }

    /// All messages that came to their end by SMTP, the oldest first, delivered or not.
    pub fn submissions(&self) -> Vec<Submission> {
        self.world.submissions.submissions()
    }

    /// All commands of SMTP, with the responses to them, connection by connection.
    pub fn smtp_commands(&self) -> Vec<SmtpCommand> {
        self.world.submissions.commands()
    }

    /// Waits until so many messages have come to their end by SMTP.
    pub async fn until_submissions(&self, count: usize) -> Vec<Submission> {
        let mut receiver = self.world.submissions.subscribe();
        match receiver.wait_for(|all| all.len() >= count).await {
            Ok(all) => all.clone(),
            // The sender is ours, and there.
            Err(_) => self.submissions(),
        }
    }

    /// The octets of a mailbox's messages, the oldest first.
    pub fn contents(&self, mailbox: &str) -> Vec<Vec<u8>> {
        self.world.mailbox(mailbox).map(|mailbox| mailbox.octets()).unwrap_or_default()
    }

    /// The octets of the messages in a mailbox's folder `Sent Items`, the oldest first.
    pub fn sent_items(&self, mailbox: &str) -> Vec<Vec<u8>> {
        let folder = self.world.mailbox(mailbox).and_then(|mailbox| mailbox.sent());
        folder.map(|folder| folder.octets()).unwrap_or_default()
    }

    /// The number of messages in a mailbox.
    pub fn messages(&self, mailbox: &str) -> usize {
        self.world.mailbox(mailbox).map_or(0, |mailbox| mailbox.contents().messages.len())
    }

    /// Changes the quirks, for running sessions too.
    pub fn quirks(&self, change: impl FnOnce(&mut Quirks)) {
        self.world.quirks.send_modify(change);
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.world.counts.borrow().clone()
    }

    /// Waits until a condition on the counts holds.
    pub async fn until(&self, mut condition: impl FnMut(&Counts) -> bool) -> Counts {
        let mut receiver = self.world.counts.subscribe();
        match receiver.wait_for(|counts| condition(counts)).await {
            Ok(counts) => counts.clone(),
            // The sender is ours, and there.
            Err(_) => self.counts(),
        }
    }

    /// The events so far, in words: `IMAP: login by XOAUTH2 as scan@contoso.example, TLSv1.3 ...`.
    pub fn events(&self) -> Vec<String> {
        self.world.events()
    }

    /// A receiver of events from now on.
    pub fn watch(&self) -> broadcast::Receiver<String> {
        self.world.feed.subscribe()
    }

    /// Approves all pending device codes as the first user; returns their number.
    pub fn approve_device_code(&self) -> usize {
        self.approve_device_code_as("")
    }

    /// Approves all pending device codes as this user; returns their number.
    pub fn approve_device_code_as(&self, address: &str) -> usize {
        entra::authorize::approve_all(&self.world, address, |_| true)
    }

    /// Revokes all refresh tokens, as "revoke sessions" does.
    pub fn revoke_refresh_tokens(&self) {
        self.world.tokens().revoke();
    }

    /// Uses of refresh tokens beyond the first of each.
    pub fn refresh_token_reuses(&self) -> u64 {
        self.world.tokens().reuses()
    }

    /// Returns whether an application's token is good for a resource now, as a server there decides.
    pub fn takes_app_token(&self, token: &str, resource: &str) -> bool {
        let grant = self.world.tokens().access(token);
        grant.is_some_and(|grant| grant.principal == tenant::Principal::App && grant.scope.resource == resource)
    }

    /// Lets all access tokens expire; running sessions continue.
    pub fn expire_access_tokens(&self) {
        self.world.tokens().expire();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Clone, Copy)]
enum ServiceKind {
    Mail(Protocol, Security),
    Endpoint,
    Metadata,
}

/// Accepts connections until the task is aborted, which ends them too.
async fn accept(listener: TcpListener, service: ServiceKind, world: Arc<World>, acceptor: Arc<Acceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((tcp, _)) = accepted {
                    connections.spawn(serve(tcp, service, Arc::clone(&world), Arc::clone(&acceptor)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(tcp: TcpStream, service: ServiceKind, world: Arc<World>, acceptor: Arc<Acceptor>) {
    let _ = tcp.set_nodelay(true);
    match service {
        ServiceKind::Metadata => entra::serve_metadata(world, tcp).await,
        ServiceKind::Endpoint => match timeout(HANDSHAKE, acceptor.accept(Socket::new(tcp), Sessions::Strangers)).await
        {
            Ok(Ok(tls)) => entra::serve(world, tls).await,
            Ok(Err(refused)) => world.log_event(format!("token endpoint: TLS handshake failed: {refused}")),
            Err(_) => world.log_event("token endpoint: TLS handshake took too long".to_owned()),
        },
        ServiceKind::Mail(protocol, security) => serve_mail(tcp, (protocol, security), world, &acceptor).await,
    }
}

async fn serve_mail(
    tcp: TcpStream,
    (protocol, security): (Protocol, Security),
    world: Arc<World>,
    acceptor: &Acceptor,
) {
    world.count(|counts| counts.mail_connections += 1);
    let kind = if protocol == Protocol::Smtp { Kind::Submission } else { Kind::Mailbox };
    let accepting = async {
        match security {
            Security::Implicit => Connection::accept(&world, acceptor, tcp, kind).await,
            Security::StartTls => Connection::accept_in_clear(&world, tcp, kind).map_err(AcceptError::Socket),
        }
    };
    let mut connection = match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(why)) => return world.log_event(format!("{}: TLS handshake failed: {why}", protocol.name())),
        Err(_) => return world.log_event(format!("{}: TLS handshake took too long", protocol.name())),
    };
    let (end, farewell) = match protocol {
        Protocol::Imap => imap::serve(world, &mut connection).await,
        Protocol::Pop3 => pop3::serve(world, &mut connection).await,
        Protocol::Smtp => smtp::serve(world, &mut connection, acceptor).await,
    };
    connection.close(end, &farewell).await;
}

const HANDSHAKE: Duration = Duration::from_secs(30);
