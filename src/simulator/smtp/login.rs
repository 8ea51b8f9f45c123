//! A login to SMTP is by XOAUTH2 or, where the quirks allow it, by the password of a user. It opens one mailbox for
//! sending.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::SmtpService;
use crate::protocol::Protocol;
use crate::simulator::connection::End;
use crate::simulator::imap::CHALLENGE;
use crate::simulator::login::{refuse, split};
use crate::simulator::quirks::smtp::{LoginRefusal, SmtpMoment};
use crate::simulator::tenant::Principal;
use crate::simulator::world::World;

/// The mailbox that is logged in; it is counted until it is dropped.
pub(super) struct Sender {
    pub(super) mailbox: String,
    /// The app's client ID, or a user's address.
    pub(super) principal: String,
    world: Arc<World>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.world.count(|counts| {
            if let Some(open) = counts.submissions.sessions.get_mut(&self.mailbox.to_lowercase()) {
                *open = open.saturating_sub(1);
            }
        });
    }
}

enum Outcome {
    Accepted(Sender),
    Refused(LoginRefusal),
    TooMany,
}

impl SmtpService<'_> {
    /// Executes AUTH (RFC 4954 §4).
    pub(super) async fn auth(&mut self, argument: &str) -> Result<(), End> {
        if self.hello.is_none() {
            return self.send("503 5.5.2 Send hello first").await;
        }
        if self.sender.is_some() {
            return self.send("503 5.5.2 Auth command only allowed once").await;
        }
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        let mechanism = mechanism.to_ascii_uppercase();
        let has_plain = self.world.quirk(|quirks| quirks.smtp.plain);
        let is_offered = matches!((mechanism.as_str(), has_plain), ("XOAUTH2" | "LOGIN", _) | ("PLAIN", true));
        if !is_offered || !self.connection.is_secure() {
            return self.send("504 5.7.4 Unrecognized authentication type").await;
        }
        let initial = Some(initial.trim()).filter(|initial| !initial.is_empty());
        let outcome = match mechanism.as_str() {
            "LOGIN" => self.login(initial).await?,
            name => match self.response(initial, "").await? {
                Some(response) if name == "XOAUTH2" => Some(self.xoauth2(&response)),
                Some(response) => Some(self.plain(&response)),
                None => None,
            },
        };
        if self.play_fault(SmtpMoment::Login).await? {
            return Ok(());
        }
        match outcome {
            None => self.refuse_login(LoginRefusal::Unsuccessful, false).await,
            Some(Outcome::Refused(refusal)) => self.refuse_login(refusal, mechanism == "XOAUTH2").await,
            Some(Outcome::TooMany) => {
                self.send(format!(
                    "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending. [{}]",
                    super::INNER_HOST
                ))
                .await
            }
            Some(Outcome::Accepted(sender)) => {
                self.sender = Some(sender);
                self.send("235 2.7.0 Authentication successful").await
            }
        }
    }

    /// Reads the response to a challenge, unless it came with the command; `None` if it is cancelled or not base64.
    async fn response(&mut self, initial: Option<&str>, challenge: &str) -> Result<Option<Vec<u8>>, End> {
        let response = match initial {
            Some("=") => String::new(),
            Some(initial) => initial.to_owned(),
            None => {
                let space = self.world.quirk(|quirks| quirks.smtp.challenge_space) || !challenge.is_empty();
                self.send(format!("334{}{challenge}", if space { " " } else { "" })).await?;
                let line = self.line().await?;
                self.world.submissions.add_command(self.number, b"(response)");
                String::from_utf8_lossy(&line).into_owned()
            }
        };
        Ok(STANDARD.decode(response.trim()).ok().filter(|_| response != "*"))
    }

    async fn login(&mut self, initial: Option<&str>) -> Result<Option<Outcome>, End> {
        let Some(user) = self.response(initial, "VXNlcm5hbWU6").await? else { return Ok(None) };
        let Some(password) = self.response(None, "UGFzc3dvcmQ6").await? else { return Ok(None) };
        Ok(Some(self.by_password("LOGIN", &user, &password)))
    }

    fn plain(&self, response: &[u8]) -> Outcome {
        let mut parts = response.split(|octet| *octet == 0).skip(1);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(user), Some(password), None) => self.by_password("PLAIN", user, password),
            _ => self.refused(LoginRefusal::Unsuccessful, "login by PLAIN refused: not three parts"),
        }
    }

    fn by_password(&self, mechanism: &str, user: &[u8], password: &[u8]) -> Outcome {
        let shown = crate::text::excerpt(user);
        let (is_allowed, refusal) = self.world.quirk(|quirks| (quirks.smtp.passwords, quirks.smtp.login_refusal));
        if let Some(refusal) = refusal.or((!is_allowed).then_some(LoginRefusal::BasicDisabled)) {
            return self.refused(refusal, &format!("login by {mechanism} as {shown} refused: {refusal:?}"));
        }
        let name = String::from_utf8_lossy(user);
        let known =
            self.world.tenant.user(&name).filter(|known| !name.is_empty() && known.password.as_bytes() == password);
        match known {
            Some(known) => self.open(mechanism, &known.address, known.address.clone()),
            None => self.refused(LoginRefusal::Unsuccessful, &format!("login by {mechanism} as {shown} refused")),
        }
    }

    /// Judges the XOAUTH2 response. A person's token opens that person's mailbox alone, and the app's those of the app.
    fn xoauth2(&self, response: &[u8]) -> Outcome {
        let refused = |refusal, user: &str, why: &str| {
            self.refused(refusal, &format!("login by XOAUTH2 as {user} refused: {why}"))
        };
        let Some((user, token)) = split(response) else {
            return refused(LoginRefusal::Unsuccessful, "nobody", "not XOAUTH2");
        };
        let shown = crate::text::excerpt(user.as_bytes());
        if let Some(refusal) = self.world.quirk(|quirks| quirks.smtp.login_refusal) {
            return refused(refusal, &shown, &format!("{refusal:?}"));
        }
        let Some(access) = self.world.tokens().access(token) else {
            return refused(LoginRefusal::Unsuccessful, &shown, "token unknown or expired");
        };
        if !access.scope.allows(Protocol::Smtp) {
            return refused(LoginRefusal::Unsuccessful, &shown, "the token is for something else");
        }
        if self.world.mailbox(user).is_none() {
            return refused(LoginRefusal::Unsuccessful, &shown, "no such mailbox");
        }
        let (may_send, principal) = match &access.principal {
            Principal::App => {
                (self.world.may_open(&access.principal, user), format!("app {}", self.world.tenant.client_id))
            }
            Principal::User(address) => (address.eq_ignore_ascii_case(user), address.clone()),
        };
        if !may_send {
            let why = format!("the token of {principal} does not open it");
            return refused(LoginRefusal::Unsuccessful, &shown, &why);
        }
        self.open("XOAUTH2", user, principal)
    }

    fn open(&self, mechanism: &str, mailbox: &str, principal: String) -> Outcome {
        let most = self.world.quirk(|quirks| quirks.smtp.connections);
        let shown = crate::text::excerpt(mailbox.as_bytes());
        let is_counted = self.world.counts.send_if_modified(|counts| {
            let open = counts.submissions.sessions.entry(mailbox.to_lowercase()).or_default();
            let is_free = *open < most;
            *open += usize::from(is_free);
            counts.submissions.most_sessions = counts.submissions.most_sessions.max(*open);
            is_free
        });
        if !is_counted {
            self.world.log_event(format!("SMTP: refused, because {shown} has too many sessions"));
            return Outcome::TooMany;
        }
        let facts = self.connection.facts();
        let tls = facts.map_or_else(|| "in clear".to_owned(), |facts| format!("{} {}", facts.version, facts.cipher));
        self.world.log_event(format!("SMTP: login by {mechanism} as {shown}, {tls}, token of {principal}"));
        self.world.count(|counts| counts.logins.of_mut(Protocol::Smtp).accepted += 1);
        Outcome::Accepted(Sender { mailbox: mailbox.to_owned(), principal, world: Arc::clone(&self.world) })
    }

    fn refused(&self, refusal: LoginRefusal, what: &str) -> Outcome {
        refuse(&self.world, Protocol::Smtp, what);
        Outcome::Refused(refusal)
    }

    /// Refuses a login after the delay.
    async fn refuse_login(&mut self, refusal: LoginRefusal, has_token: bool) -> Result<(), End> {
        let (delay, json) = self.world.quirk(|quirks| (quirks.smtp.refusal_delay, quirks.smtp.json_challenge));
        if json && has_token {
            self.send(format!("334 {}", STANDARD.encode(CHALLENGE))).await?;
            // The client has to say something, and nothing is right.
            self.line().await?;
            self.world.submissions.add_command(self.number, b"(response)");
        }
        tokio::time::sleep(delay).await;
        let reply = match refusal {
            LoginRefusal::Unsuccessful => "535 5.7.3 Authentication unsuccessful",
            LoginRefusal::DisabledForTenant => {
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit \
                 https://aka.ms/smtp_auth_disabled for more information."
            }
            LoginRefusal::DisabledForMailbox => {
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit \
                 https://aka.ms/smtp_auth_disabled for more information."
            }
            LoginRefusal::SecurityDefaults => {
                "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults \
                 policy. Contact your administrator."
            }
            LoginRefusal::Criteria => {
                "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated \
                 successfully. Contact your administrator."
            }
            LoginRefusal::BasicDisabled => "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
            LoginRefusal::BasicGone => "550 5.7.30 Basic authentication is not supported for Client Submission.",
        };
        let time = humantime::format_rfc3339_millis(std::time::SystemTime::now());
        self.send(format!("{reply} [{} {time} {}]", super::INNER_HOST, super::NUMBER)).await
    }
}
