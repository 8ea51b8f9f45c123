//! Changes of the configuration file that the page makes: devices are added, removed and given new passwords, by the same
//! code as `packetboat device`, where `admin.edit = true`.
//!
//! The new text is checked before it is in place, and the proxy loads it at once. If it rejects it, the old text is put
//! back. A new password is in the answer alone, and nowhere else.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::Admin;
use super::handler::JSON;
use crate::config::{Config, Environment, Problem, own_domain};
use crate::device::password;
use crate::mode::Mode;
use crate::pool::{self, Closing, NotDone};
use crate::provision::{ConfigurationFile, Document, Error, NewDevice, edits};
use crate::proxy::{self, ProcessState, Snapshot};
use crate::text::shell_word;
use crate::transport::http::server::{Request, Response};

/// The configuration file, for the page, and the way to a reload.
pub struct ConfigurationAccess {
    file: PathBuf,
    /// The reason why this process cannot change the file.
    problem: Option<String>,
    reloads: mpsc::Sender<ReloadRequest>,
}

/// A request to load the file, which the page has changed.
pub struct ReloadRequest(oneshot::Sender<Option<String>>);

impl ConfigurationAccess {
    /// The access to this file, and the requests that come of it.
    pub fn of(file: &Path, problem: Option<String>) -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (reloads, requests) = mpsc::channel(1);
        (Self { file: file.to_path_buf(), problem, reloads }, requests)
    }

    /// The reason why this process cannot change the file, if so.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Has the file loaded. Returns the reason if the proxy rejects it.
    async fn load(&self) -> Result<(), EditError> {
        let (answer, result) = oneshot::channel();
        self.reloads.send(ReloadRequest(answer)).await.map_err(|_| EditError::GoingDown)?;
        match result.await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(EditError::Rejected(why)),
            Err(_) => Err(EditError::GoingDown),
        }
    }
}

impl ReloadRequest {
    /// Answers with the reason for rejecting the file, if it was rejected.
    pub fn answer(self, problem: Option<String>) {
        // The page's request waits for as long as the process runs.
        let _ = self.0.send(problem);
    }
}

/// A change that somebody asks for.
enum Change {
    Add { login: String, mailbox: String, networks: Vec<String>, description: Option<String>, without_login: bool },
    Password { login: String },
    Remove { login: String },
}

/// The reason for changing nothing.
enum EditError {
    /// The file cannot be changed, or the change makes no sense there.
    File(Error),
    /// There is no password.
    Password(password::Error),
    /// The new text has mistakes.
    Mistakes(Vec<Problem>),
    /// The proxy has rejected the new file, and the old one is back.
    Rejected(String),
    /// The threads for files or passwords do not answer.
    NotDone(NotDone),
    /// The browser that asked for the new password has left before the change.
    CallerLeft,
    /// The process is going down.
    GoingDown,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "{error}"),
            Self::Password(error) => write!(f, "{error}"),
            Self::Mistakes(problems) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("; "))
            }
            Self::Rejected(why) => {
                write!(f, "packetboat rejects the new configuration, and the old one is back: {why}")
            }
            Self::NotDone(why) => write!(f, "the configuration cannot be changed now: {why}"),
            Self::CallerLeft => f.write_str("the page that asked for it has left before the file was changed"),
            Self::GoingDown => f.write_str("packetboat is going down"),
        }
    }
}

impl Change {
    /// Reads what the page asks for.
    fn read(received: &Request) -> Option<Self> {
        let field = |name| received.field(name).unwrap_or_default().trim().to_owned();
        let login = Some(field("login")).filter(|login| !login.is_empty())?;
        let words = |name| field(name).split([',', ' ']).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        Some(match received.path.as_str() {
            "/edit/add" => Self::Add {
                login,
                mailbox: field("mailbox"),
                networks: words("networks"),
                description: Some(field("description")).filter(|text| !text.is_empty()),
                without_login: !field("without_login").is_empty(),
            },
            "/edit/password" => Self::Password { login },
            "/edit/remove" => Self::Remove { login },
            _ => return None,
        })
    }

    fn login(&self) -> &str {
        match self {
            Self::Add { login, .. } | Self::Password { login } | Self::Remove { login } => login,
        }
    }

    /// The command that does the same.
    fn command(&self) -> String {
        let login = shell_word(self.login());
        match self {
            Self::Add { mailbox, networks, description, without_login, .. } => {
                let mut command = format!("packetboat device add {login} --mailbox {}", shell_word(mailbox));
                if *without_login {
                    command += &format!(" --without-login --recipient {}", shell_word(&own_domain(mailbox)));
                }
                for network in networks {
                    command += &format!(" --network {}", shell_word(network));
                }
                if let Some(description) = description {
                    command += &format!(" --description {}", shell_word(description));
                }
                command
            }
            Self::Password { .. } => format!("packetboat device password {login}"),
            Self::Remove { .. } => format!("packetboat device remove {login}"),
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Add { .. } => "device added",
            Self::Password { .. } => "device has a new password",
            Self::Remove { .. } => "device removed",
        }
    }

    /// Returns whether the device gets a new password.
    fn has_password(&self) -> bool {
        match self {
            Self::Add { without_login, .. } => !without_login,
            Self::Password { .. } => true,
            Self::Remove { .. } => false,
        }
    }

    /// Changes the document. A device without a login may send to its mailbox's own domain, unless the account has a list.
    fn apply(&self, document: &mut Document, config: &Config, hash: Option<String>) -> Result<(), Error> {
        match self {
            Self::Add { login, mailbox, networks, description, without_login } => {
                let account = edits::account_of_mailbox(document, config, mailbox)?;
                let known = edits::account_with(config, mailbox).map(|(_, account)| account);
                let is_bounded = known.is_some_and(|account| !account.submission.recipients.is_empty());
                let recipients = (*without_login && !is_bounded).then(|| own_domain(mailbox));
                let alias = edits::alias(config, login, mailbox).filter(|_| !without_login);
                document.add_device(&NewDevice {
                    login: login.clone(),
                    aliases: alias.into_iter().collect(),
                    password: hash,
                    account,
                    networks: edits::networks(networks.iter().map(String::as_str))?,
                    recipients: recipients.into_iter().collect(),
                    description: description.clone(),
                })
            }
            Self::Password { login } => document.set_passwords(login, &Vec::from_iter(hash)),
            Self::Remove { login } => edits::remove_device(document, config, login),
        }
    }
}

impl Admin {
    /// Changes the configuration file as the page asks.
    pub(super) async fn edit(self: &Arc<Self>, received: &Request) -> Response {
        if !self.serving.read().await.config().admin.edit {
            let words =
                "the page may change nothing in the configuration: set admin.edit = true, and restart packetboat\n";
            return Response::text(403, words);
        }
        let Some(change) = Change::read(received) else {
            return Response::text(400, "login is missing: the device's user name\n");
        };
        if let Some(why) = self.access.problem() {
            let words = format!("{why}. Run this on packetboat's computer, as root: {}\n", change.command());
            return Response::text(409, words);
        }
        let admin = Arc::clone(self);
        let (caller, _waiting) = oneshot::channel();
        // A task of its own finishes the change, and logs it, even if its caller leaves after the file has changed.
        let done = tokio::spawn(async move {
            let _alone = admin.editing.lock().await;
            let result = admin.change_file(&change, caller).await;
            let login = change.login();
            match &result {
                Ok(_) => info!(login, "{}: somebody asked for it on the page", change.words()),
                Err(why) => warn!(login, "the page has changed nothing: {why}"),
            }
            (result, change)
        });
        match done.await {
            Ok((Ok(password), change)) => {
                let password = password.as_ref().map(|password| password.as_str());
                let sheet = format!("packetboat device sheet {}", shell_word(change.login()));
                let answer = json!({ "login": change.login(), "done": change.words(), "password": password, "sheet": sheet,
                        "without_login": matches!(change, Change::Add { without_login: true, .. }) });
                Response::of(200, JSON, answer.to_string())
            }
            Ok((Err(why), _)) => Response::text(409, format!("{why}\n")),
            Err(_) => Response::text(500, "an internal error, which the log names\n"),
        }
    }

    /// Puts the changed text in place, unless the caller has left, and has it loaded. Returns the new password, if there
    /// is one.
    async fn change_file(
        &self,
        change: &Change,
        caller: oneshot::Sender<()>,
    ) -> Result<Option<Zeroizing<String>>, EditError> {
        let password = match change.has_password() {
            true => Some(password::generate(usize::from(password::LENGTH)).map_err(EditError::Password)?),
            false => None,
        };
        let hash = match password.clone() {
            None => None,
            Some(password) => {
                let hashed = pool::PASSWORDS.run(move || password::hash(password.as_bytes())).await;
                Some(hashed.map_err(EditError::NotDone)?.map_err(EditError::Password)?)
            }
        };
        let serving = self.serving.read().await;
        let running =
            Running { config: serving.config().clone(), present: serving.present(), process: self.common.clone() };
        drop(serving);
        let file = self.access.file.clone();
        let open = move || {
            let target = ConfigurationFile::open(&file).map_err(EditError::File)?;
            let before = running.prove(target.text(), target.path())?;
            Ok::<_, EditError>((target, before, running))
        };
        let (target, before, running) = pool::FILES.run_within(LONGEST, open).await.map_err(EditError::NotDone)??;
        let edited = Document::parse(target.text()).and_then(|mut document| {
            change.apply(&mut document, &before, hash)?;
            Ok(document.text())
        });
        let text = match edited {
            Ok(text) => text,
            Err(why) => {
                drop(Closing::on(&pool::FILES, target));
                return Err(EditError::File(why));
            }
        };
        let replace = move || {
            running.check(&text, target.path())?;
            if caller.is_closed() {
                return Err(EditError::CallerLeft);
            }
            target.replace(&text).map_err(EditError::File)?;
            Ok((target, text))
        };
        let (target, text) = pool::FILES.run_within(LONGEST, replace).await.map_err(EditError::NotDone)??;
        if let Err(why) = self.access.load().await {
            let restored = pool::FILES.run_within(LONGEST, move || target.restore(&text)).await;
            restored.map_err(EditError::NotDone)?.map_err(EditError::File)?;
            return Err(why);
        }
        drop(Closing::on(&pool::FILES, target));
        Ok(password)
    }
}

/// The parts of the running process that a new configuration is checked against.
struct Running {
    config: Config,
    present: Snapshot,
    process: ProcessState,
}

impl Running {
    fn prove(&self, text: &str, path: &Path) -> Result<Config, EditError> {
        let proven = Config::parse_with(text, path, &Environment::of_process()).map_err(EditError::Mistakes)?;
        Ok(Config { state_directory: self.config.state_directory.clone(), ..proven.config })
    }

    /// Opens everything that the new text names, as `packetboat check` does. It reads files.
    fn check(&self, text: &str, path: &Path) -> Result<(), EditError> {
        let proven = Config::parse_with(text, path, &Environment::of_process()).map_err(EditError::Mistakes)?;
        let config = self.prove(text, path)?;
        let opened = proxy::open(&config, Mode::DryRun, &self.process, Some(&self.present));
        opened.map(drop).map_err(|found| EditError::Mistakes(proven.problems(&found)))
    }
}

/// The longest wait for the file: for a command that changes it too, above all.
const LONGEST: Duration = Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        let change = Change::Add {
            login: "fax 2".to_owned(),
            mailbox: "scan@contoso.example".to_owned(),
            networks: vec!["192.168.1.21".to_owned()],
            description: Some("the boss's fax".to_owned()),
            without_login: false,
        };
        assert_eq!(
            change.command(),
            "packetboat device add 'fax 2' --mailbox scan@contoso.example --network 192.168.1.21 \
             --description 'the boss'\\''s fax'"
        );
    }
}
