//! Sign-ins that begin and end on the page: by a browser that comes back with a code (PKCE, RFC 7636), or by a code that
//! is typed at another address (RFC 8628). The refresh token is kept as `packetboat login` keeps it, and used at once.
//!
//! A sign-in takes one answer, and that only if its `state` is the sign-in's own. Another person than the account's user
//! is refused. No token, code or secret is logged or shown.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Admin;
use crate::config::{Grant, Identity, Limits};
use crate::failure::Failure;
use crate::lifecycle::unix_time;
use crate::token::{CachedToken, DeviceSignIn, Enrolment, Error, OtherPerson, Pasted, Redirect};
use crate::transport::http::server::{Request, Response};

/// The newest sign-in of each account that people sign in for.
#[derive(Default)]
pub(super) struct SignIns(Mutex<BTreeMap<String, SignIn>>);

struct SignIn {
    /// Differs from one sign-in to the next: one that was replaced changes nothing any more.
    number: u64,
    user: String,
    stage: Stage,
    task: Option<AbortHandle>,
}

/// The point that a sign-in has come to.
enum Stage {
    /// The provider is asked for a code, or a port is opened.
    Beginning,
    /// The person signs in in a browser, which comes back, or whose last address is pasted.
    Browser { enrolment: Arc<Enrolment>, redirect: String, sender: mpsc::Sender<Pasted> },
    /// The person types the code at the address, on any computer.
    Code { address: String, code: String, until: u64 },
    /// The answer is there, and is being redeemed.
    Redeeming,
    /// The person has signed in.
    SignedIn(String),
    /// The sign-in has failed; the text is the reason.
    Failed(String),
}

/// A reason for the end of a sign-in.
enum NotSignedIn {
    /// The operating system refuses the port that the browser comes back to.
    Port(io::Error),
    /// The provider or the store says no.
    Token(Error),
    /// The provider refuses in the browser.
    Provider(String),
    /// The person has not answered in time.
    Late,
    /// The sign-in is kept, and brings no access token.
    NoAccess(Failure),
}

impl fmt::Display for NotSignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(error) => write!(f, "cannot listen on 127.0.0.1 for the browser: {error}"),
            Self::Token(error) => write!(f, "{error}"),
            Self::Provider(why) => write!(f, "the sign-in was refused: {why}"),
            Self::Late => write!(f, "nobody signed in within {}", humantime::format_duration(PATIENCE)),
            Self::NoAccess(failure) => write!(f, "signed in, but {failure}"),
        }
    }
}

impl Stage {
    fn is_under_way(&self) -> bool {
        !matches!(self, Self::SignedIn(_) | Self::Failed(_))
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Beginning => json!({ "stage": "beginning" }),
            Self::Browser { enrolment, redirect, .. } => {
                json!({ "stage": "browser", "url": enrolment.url(), "redirect": redirect })
            }
            Self::Code { address, code, until } => {
                json!({ "stage": "code", "url": address, "code": code, "until": until })
            }
            Self::Redeeming => json!({ "stage": "redeeming" }),
            Self::SignedIn(text) => json!({ "stage": "signed-in", "text": text }),
            Self::Failed(text) => json!({ "stage": "failed", "text": text }),
        }
    }
}

impl SignIns {
    /// Takes in a new sign-in, in place of an earlier one; `None` if too many are under way.
    fn begin(&self, account: &str, user: &str) -> Option<u64> {
        let mut all = self.0.lock();
        let others = all.iter().filter(|(name, one)| *name != account && one.stage.is_under_way());
        if others.count() >= AT_A_TIME {
            return None;
        }
        let number = all.values().map(|one| one.number).max().unwrap_or_default() + 1;
        let new = SignIn { number, user: user.to_owned(), stage: Stage::Beginning, task: None };
        let before = all.insert(account.to_owned(), new);
        before.and_then(|one| one.task).inspect(AbortHandle::abort);
        Some(number)
    }

    fn change(&self, account: &str, number: u64, change: impl FnOnce(&mut SignIn)) {
        if let Some(one) = self.0.lock().get_mut(account).filter(|one| one.number == number) {
            change(one);
        }
    }

    fn set(&self, account: &str, number: u64, stage: Stage) {
        self.change(account, number, |one| one.stage = stage);
    }

    /// Hands on the address at which the browser has ended; the reason and a status code if it is of no use.
    fn answer(&self, account: &str, address: &str) -> Response {
        let all = self.0.lock();
        let Some(Stage::Browser { enrolment, sender, .. }) = all.get(account).map(|one| &one.stage) else {
            return Response::text(409, "no sign-in waits for an address: it has had one, or has ended; begin anew\n");
        };
        match enrolment.read(address) {
            Pasted::Strange(advice) => Response::text(400, format!("{advice}\n")),
            pasted => match sender.try_send(pasted) {
                Ok(()) => Response::text(202, "taken\n"),
                Err(_) => Response::text(409, "this sign-in has had an answer\n"),
            },
        }
    }

    /// The sign-ins by account, for the page.
    pub(super) fn to_json(&self) -> Value {
        let all = self.0.lock();
        let shown = all
            .iter()
            .map(|(account, one)| (account.clone(), json!({ "user": one.user, "progress": one.stage.to_json() })));
        shown.collect::<serde_json::Map<_, _>>().into()
    }
}

/// A sign-in that has begun, with the parts of the running configuration that it needs.
struct Begun {
    account: String,
    number: u64,
    token: Arc<CachedToken>,
    identity: Identity,
    limits: Limits,
}

impl Admin {
    /// Begins a sign-in for the account of the request, and answers at once.
    pub(super) async fn begin_sign_in(self: &Arc<Self>, received: &Request) -> Response {
        let serving = self.serving.read().await;
        let found = serving.sign_in_of(received.field("account").unwrap_or_default());
        let Some((token, identity)) = found else {
            return Response::text(404, "the running configuration has no such account that a person signs in for\n");
        };
        let (identity, limits) = (identity.clone(), serving.config().limits);
        drop(serving);
        let (user, account) = token.sign_in();
        let (user, account) = (user.to_owned(), account.to_owned());
        let Some(number) = self.sign_ins.begin(&account, &user) else {
            return Response::text(429, format!("{AT_A_TIME} sign-ins are under way already: end one of them first\n"));
        };
        info!(account, user, "a sign-in begins: somebody asked for it on the page");
        let begun = Begun { account: account.clone(), number, token, identity, limits };
        let task = tokio::spawn(Arc::clone(self).sign_in(begun)).abort_handle();
        self.sign_ins.change(&account, number, |one| one.task = Some(task));
        Response::text(202, "begun\n")
    }

    /// Takes in the address that somebody has pasted.
    pub(super) async fn answer_sign_in(&self, received: &Request) -> Response {
        let account = self.login_account(received).await;
        self.sign_ins.answer(&account, received.field("address").unwrap_or_default())
    }

    /// Ends a sign-in that somebody does not go on with.
    pub(super) async fn cancel_sign_in(&self, received: &Request) -> Response {
        let account = self.login_account(received).await;
        let ended = self.sign_ins.0.lock().remove(&account);
        ended.and_then(|one| one.task).inspect(AbortHandle::abort);
        Response::text(200, "ended\n")
    }

    async fn login_account(&self, received: &Request) -> String {
        let account = received.field("account").unwrap_or_default();
        let serving = self.serving.read().await;
        let token = serving.sign_in_of(account).map(|(token, _)| token.sign_in().1.to_owned());
        token.unwrap_or_else(|| account.to_owned())
    }

    async fn sign_in(self: Arc<Self>, begun: Begun) {
        let result = match begun.identity.grant {
            Grant::DeviceCode(_) => self.by_code(&begun).await,
            _ => self.by_browser(&begun).await,
        };
        let Begun { account, number, token, .. } = &begun;
        let user = token.sign_in().0;
        match result {
            Ok(text) => {
                info!(account, user, "signed in on the page");
                self.sign_ins.set(account, *number, Stage::SignedIn(text));
            }
            Err(why) => {
                warn!(account, user, "the sign-in on the page came to nothing: {why}");
                self.sign_ins.set(account, *number, Stage::Failed(why.to_string()));
            }
        }
    }

    async fn by_browser(&self, begun: &Begun) -> Result<String, NotSignedIn> {
        let Begun { account, number, token, .. } = begun;
        let redirect = Redirect::listen(0).await.map_err(NotSignedIn::Port)?;
        let address = redirect.address();
        let enrolment = Arc::new(Enrolment::begin(token, &address).map_err(NotSignedIn::Token)?);
        let (sender, mut receiver) = mpsc::channel(1);
        tokio::spawn(redirect.receive(Arc::clone(&enrolment), sender.clone()));
        let stage = Stage::Browser { enrolment: Arc::clone(&enrolment), redirect: address, sender };
        self.sign_ins.set(account, *number, stage);
        let pasted = timeout(PATIENCE, receiver.recv()).await.ok().flatten();
        // No second answer counts.
        self.sign_ins.set(account, *number, Stage::Redeeming);
        drop(receiver);
        match pasted {
            Some(Pasted::Code(code)) => {
                enrolment.finish(&code, OtherPerson::Refuse).await.map_err(NotSignedIn::Token)?;
                prove(token).await
            }
            Some(Pasted::Refused(why)) => Err(NotSignedIn::Provider(why)),
            Some(Pasted::Strange(_)) | None => Err(NotSignedIn::Late),
        }
    }

    async fn by_code(&self, begun: &Begun) -> Result<String, NotSignedIn> {
        let Begun { account, number, token, identity, limits } = begun;
        let sign_in = DeviceSignIn::begin(token, &identity.roots, limits).await.map_err(NotSignedIn::Token)?;
        let stage = Stage::Code {
            address: sign_in.uri.as_str().to_owned(),
            code: sign_in.user_code.as_str().to_owned(),
            until: unix_time() + sign_in.left().as_secs(),
        };
        self.sign_ins.set(account, *number, stage);
        sign_in.finish(OtherPerson::Refuse).await.map_err(NotSignedIn::Token)?;
        prove(token).await
    }
}

/// Fetches an access token by the new sign-in, for devices that wait.
async fn prove(token: &Arc<CachedToken>) -> Result<String, NotSignedIn> {
    let access = token.access_anew().await.map_err(NotSignedIn::NoAccess)?;
    let life = humantime::format_duration(Duration::from_secs(access.left().as_secs() + 1));
    Ok(format!("signed in as {}; access tokens live for {life}", token.sign_in().0))
}

/// The most sign-ins under way.
const AT_A_TIME: usize = 8;
/// The longest wait for the person; Microsoft's codes live for ten minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
