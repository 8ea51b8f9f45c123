//! Pairs of mailboxes at one server: packetboat parks the connections of one mailbox of each pair, and dials anew for each
//! device of the other one.

use std::fmt;

use packetboat::simulator::User;
use support::dovecot::Dovecot;
use support::exchange::{BY_SECRET, Exchange, PASSWORD};
use support::issuer::Issuer;
use support::proxy::{Proxy, translating_listener, upstream};
use support::translated;

/// A mailbox of each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    Parked,
    Dialled,
}

pub struct Twins {
    pub proxy: Proxy,
    server: Server,
}

/// The server of both.
enum Server {
    Dovecot { dovecot: Dovecot, _issuer: Issuer },
    Exchange(Exchange),
}

impl fmt::Display for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Twin::Parked { "parked" } else { "dialled" })
    }
}

impl Twins {
    pub const BOTH: [Twin; 2] = [Twin::Parked, Twin::Dialled];

    /// So many pairs at Dovecot, with these messages in each mailbox.
    pub fn at_dovecot(pairs: usize, messages: &[&[u8]]) -> Self {
        let issuer = Issuer::start();
        let dovecot = Dovecot::start_with_tokens_of(&issuer);
        let mailboxes: Vec<_> = (0..pairs).map(|_| [(); 2].map(|()| dovecot.user_with(messages))).collect();
        let (ports, roots) = ([dovecot.imaps, dovecot.pop3s], dovecot.roots());
        let directory = roots.parent().unwrap();
        let mut text = upstream("parked", ports, directory, PARK) + &upstream("dialled", ports, directory, "");
        text += &translating_listener("imap", "imap", "implicit", "");
        for (number, pair) in mailboxes.iter().enumerate() {
            for (twin, mailbox) in Self::BOTH.into_iter().zip(pair) {
                let account = format!("{twin}{number}");
                text += &translated::account(&account, mailbox, &twin.to_string(), &issuer);
                text += &devices(&account);
            }
        }
        let proxy = Proxy::start(&text);
        Self { proxy, server: Server::Dovecot { dovecot, _issuer: issuer } }
    }

    /// So many pairs at the simulator.
    pub fn at_exchange(pairs: usize, messages: &[&[u8]]) -> Self {
        let mailboxes: Vec<_> =
            (0..pairs).map(|number| Self::BOTH.map(|twin| format!("{twin}{number}@contoso.example"))).collect();
        let exchange = Exchange::with(|tenant| {
            for mailbox in mailboxes.iter().flatten() {
                tenant.users.push(User::new(mailbox, "the password of a person"));
                tenant.app_mailboxes.push(mailbox.clone());
            }
        });
        for mailbox in mailboxes.iter().flatten() {
            messages.iter().for_each(|message| assert!(exchange.simulator.deliver(mailbox, message.to_vec())));
        }
        let frame = exchange.frame();
        let listeners = frame.find("[[listener]]").unwrap();
        let server = |name: &str, more: &str| {
            frame[..listeners].replacen("[upstream.exchange]\n", &format!("[upstream.{name}]\n{more}"), 1)
        };
        let mut text = server("parked", &format!("{PARK}\n")) + &server("dialled", "") + &frame[listeners..];
        text += &exchange.identity(BY_SECRET);
        for (number, pair) in mailboxes.iter().enumerate() {
            for (twin, mailbox) in Self::BOTH.into_iter().zip(pair) {
                let account = format!("{twin}{number}");
                text += &format!("[account.{account}]\nmailbox = \"{mailbox}\"\nupstream = \"{twin}\"\n");
                text += &devices(&account);
            }
        }
        let proxy = Proxy::start(&text);
        Self { proxy, server: Server::Exchange(exchange) }
    }

    /// The number of logins that the server has seen.
    pub fn logins(&self) -> u64 {
        match &self.server {
            Server::Dovecot { dovecot, .. } => {
                let is_login = |line: &&str| line.contains("imap-login") && line.contains("Login: user=<");
                dovecot.log().lines().filter(is_login).count() as u64
            }
            Server::Exchange(exchange) => exchange.simulator.counts().imap().accepted,
        }
    }
}

/// The login of a device: the first one may delete, the second one may not.
pub fn login(twin: Twin, pair: usize, device: usize) -> String {
    format!("{twin}{pair}-{}", if device == 0 { "first" } else { "second" })
}

fn devices(account: &str) -> String {
    translated::device(&format!("{account}-first"), account, PASSWORD, "")
        + &translated::device(&format!("{account}-second"), account, PASSWORD, "delete = false")
}

const PARK: &str = "park = \"5m\"";
